"""A progress bar for long runs, fed by the count files that the stages stage as they finish their pieces."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

PERIOD = 0.5  # seconds between two looks at the folder


@contextmanager
def watched(folder: Path, pieces: int) -> Iterator[None]:
    """Show a bar while the body runs, if a person is watching. `pieces`: how many count files there will be."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("deciding", total=pieces)

        def look() -> None:
            while not over.wait(PERIOD):
                done = sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0
                progress.update(task, completed=min(done, pieces))

        watcher = threading.Thread(target=look, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
