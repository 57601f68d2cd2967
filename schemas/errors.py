"""The exceptions of Limen. A message is a constant code and a cause to act on, never a value that came in.

    LimenError
    ├── ConfigurationError   the run was asked for wrongly: exit 2, nothing written
    ├── MessageError         one message cannot be read: it becomes data (rejected, sealed, counted)
    ├── LawBroken            outputs do not add up: exit 3, marked unusable
    ├── SourceHeld           the policy lets nothing of this source out for now: exit 1, nothing published
    ├── StoreError           a store (vault, keyset, folder) failed or refuses: exit 1
    └── Defect               a stage failed on a fault of ours (transforms/defects.py): exit 1

Raise them `from None`: a chained cause prints too, and causes quote values. Compiled code (setup.py) leaves that
out, so each says it of itself.
"""

from schemas.outcome import Reason


class LimenError(Exception):
    """Root of everything that Limen raises on purpose."""

    def __init__(self, *said: object) -> None:
        super().__init__(*said)
        self.__suppress_context__ = True


class ConfigurationError(LimenError):
    """One line for the person who typed the command: which option, what is wrong, what to do."""

    def __init__(self, option: str, problem: str, fix: str) -> None:
        super().__init__(f"{option}: {problem}; {fix}")
        self.problem, self.fix = problem, fix


class MessageError(LimenError):
    """A message that cannot be read. Carries a reason of the closed enum and nothing of the message."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.value)
        self.reason = reason


class LawBroken(LimenError):
    """A law of the outputs does not hold (conservation, an effect without its audit record)."""


class SourceHeld(LimenError):
    """The policy holds the source: somebody may have refused, and nobody knows who. One line, which says what to do."""


class StoreError(LimenError):
    """A store failed or refuses. The text is a constant code."""
