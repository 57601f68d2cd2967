"""What a source yields: messages as they came, in blocks, because the unit that Beam moves is never one event."""

from enum import StrEnum
from typing import NamedTuple


class Format(StrEnum):
    """How a file was recognised, by its content and before anything was split."""

    HL7 = "hl7"  # HL7 v2: one or many messages, batches, MLLP frames
    NDJSON = "ndjson"  # one JSON object a line: FHIR resources, CloudEvents, anything
    JSON = "json"  # one JSON document: a resource, a Bundle, a batch of CloudEvents
    TAR = "tar"  # an archive of files, each of which is recognised for itself; within an archive one rejected message
    ZIP = "zip"  # the same
    UNKNOWN = "unknown"  # none of these: one rejected message
    EMPTY = "empty"  # nothing in it: one rejected message
    TOO_LARGE = "too_large"  # one JSON document over the limit: one rejected message


class Message(NamedTuple):
    """Bytes as they came. `position` is the byte offset in its (uncompressed) file, or in the files of its
    archive, laid end to end with a byte between; `published` is when a broker
    received it, in microseconds since 1970 UTC, and None for files, which do not say."""

    body: bytes
    position: int
    published: int | None = None

    def __repr__(self) -> str:
        return "Message()"


class Block(NamedTuple):
    """Messages of one format out of one file; without any it says that time passes, for everybody in the ledger.

    `file` is the file's content digest (hex), never its name; `part` is the piece of the run's input that they came in,
    since two files may have one content."""

    form: Format
    file: str
    messages: list[Message]
    part: int = 0

    def __repr__(self) -> str:
        return "Block()"
