"""What a person reads: a console that cuts nothing off, and numbers with their nouns."""

import sys

from rich.console import Console

_ENDLESS = 10_000  # columns: in a pipe or a file nothing has to fit


def console() -> Console:
    """For standard output. A terminal's width is kept by tables alone; elsewhere every line is one line."""
    return Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else _ENDLESS)


def many(number: int, noun: str) -> str:
    """'1 event', '2,000 events'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
