"""Defects of ours, outside of the two places where they become data: the job stops, and says so without a value.

An exception's text may quote what it choked on, and workers log it, runners keep it. What leaves a stage is a constant
code and the kind of the exception.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from schemas.errors import LimenError


class Defect(LimenError):
    """A stage failed; the text names the stage and the kind of the failure."""


@contextmanager
def without_values(stage: str) -> Iterator[None]:
    """Let nothing out of the body but our own, value-free errors."""
    try:
        yield
    except LimenError:
        raise
    except Exception as defect:  # noqa: BLE001  whatever it is, its text stays here
        raise Defect(f"defect_in_{stage}_{type(defect).__name__}") from None
