"""Decode: a block of messages to minimal, typed facts, as versioned bytes and keyed by shard.

The only seam of the job: no message crosses it, only facts, and every fact of one patient reaches the same shard.
What cannot be read is sealed here, to a key that the job does not hold, and travels as an outcome made already.
"""

import json
import logging
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple
from zlib import crc32

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput
from apache_beam.typehints.decorators import no_annotations
from msgspec.structs import force_setattr

from schemas.errors import MessageError
from schemas.event import AnyFact, Consent, Judgement, Made, Milestone, encode
from schemas.instant import BEGINNING, FOREVER
from schemas.keyset import KeyPurpose, Keyset
from schemas.message import Block, Format, Message
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.seal import QUARANTINE_INFO, Quarantined, seal
from schemas.stores import Opens
from transforms.rules import hl7_events, reading
from transforms.rules.digests import Mac, keyed
from transforms.rules.envelope import Envelopes
from transforms.rules.envelope_parts import Counted
from transforms.rules.identity import shard_of
from transforms.rules.reading import Reading
from transforms.rules.rejection import rejected
from transforms.rules.signed_verdicts import SignedVerdicts

_LOG = logging.getLogger("limen.decode")
REMEMBERED = 100_000  # patients whose shard a worker remembers
_UNREADABLE = {
    Format.UNKNOWN: Reason.UNKNOWN_FORMAT,
    Format.TAR: Reason.UNKNOWN_FORMAT,
    Format.ZIP: Reason.UNKNOWN_FORMAT,
    Format.EMPTY: Reason.EMPTY_FILE,
    Format.TOO_LARGE: Reason.TOO_LARGE,
}


class Decoded(NamedTuple):
    """`facts`: (shard, facts as bytes). `counts`: (name, JSON) with what was received, one for each block."""

    facts: beam.PCollection[tuple[bytes, bytes]]
    counts: beam.PCollection[tuple[str, bytes]]


class Decode(beam.PTransform):
    """Every message of a block comes out as one counted fact; a merge is told to both of its sides."""

    def __init__(self, policy: Policy, keys: Opens[Keyset], shards: int) -> None:
        super().__init__()
        self._policy, self._keys, self._shards = policy, keys, shards

    @no_annotations
    def expand(self, blocks):
        out = blocks | "DecodeBlock" >> beam.ParDo(_Decode(self._policy, self._keys, self._shards)).with_outputs(
            "counts", main="facts"
        )
        return Decoded(out.facts, out.counts)


class _Decode(beam.DoFn):
    def __init__(self, policy: Policy, keys: Opens[Keyset], shards: int) -> None:
        self._policy, self._keys, self._shards = policy, keys, shards

    def setup(self) -> None:
        keyset = self._keys.open()
        self._names = keyset.derive(KeyPurpose.QUARANTINE_NAME)
        self._messages = Mac(keyset.derive(KeyPurpose.AUDIT, "message"))
        self._patients = Mac(keyset.derive(KeyPurpose.PATIENT))
        self._placed: dict[str, int] = {}
        self._public = keyset.quarantine
        self._reader = reader(self._policy, SignedVerdicts(keyset, self._policy.review))

    def process(
        self, block: Block
    ) -> Iterable[tuple[bytes, bytes] | TaggedOutput[Literal["counts"], tuple[str, bytes]]]:
        shards: dict[int, list[AnyFact]] = {}
        if not block.messages:
            shards = {shard: [] for shard in range(self._shards)}
        received, newest = 0, BEGINNING
        types: Counter[str] = Counter()
        statuses: list[tuple[str, int | None, list[int]]] = []
        read, form, name, count = self._reader.read, block.form, self._messages.name, self._shards
        placed = self._placed
        for message in block.messages:
            for counted in read(form, message):
                received += 1
                if said := counted.status:
                    statuses.append((name(said.subscription.encode()).hex(), said.since, said.numbers))
                for fact in counted.facts if counted.reason is None else (self._rejected(counted, block, message),):
                    # A key is set in place: nobody else holds the fact yet, and a copy costs twice as much (0.08 µs).
                    if isinstance(fact, Made):
                        if not fact.key:  # made already, so it is known by the bytes that it had
                            force_setattr(fact, "key", keyed(self._names, counted.body))
                        types[f"{fact.verdict} {fact.type}"] += 1
                        shard = crc32(fact.key) % count
                    else:
                        if (dated := _dated(fact)) > newest:
                            newest = dated
                        # what crosses the seam, and what the audit log calls the message: nobody can guess a key
                        force_setattr(fact, "key", name(fact.key))
                        shard = placed[fact.patient] if fact.patient in placed else self._place(fact.patient)
                    if shard in shards:
                        shards[shard].append(fact)
                    else:
                        shards[shard] = [fact]
        for shard, facts in shards.items():
            yield shard.to_bytes(4, "big"), encode(facts)
        position = block.messages[0].position if block.messages else 0
        counts = {"received": received, "types": types, "newest": newest}
        if statuses:
            counts["statuses"] = statuses
        yield TaggedOutput("counts", (f"decode-{block.part}-{form}-{position}", json.dumps(counts).encode()))

    def _place(self, patient: str) -> int:
        """A patient's shard, which the ledger knows too; remembered."""
        if len(self._placed) == REMEMBERED:
            self._placed.clear()
        shard = self._placed[patient] = shard_of(self._patients.name(patient.encode()), self._shards)
        return shard

    def _rejected(self, counted: Counted, block: Block, message: Message) -> Made:
        """What cannot be read, sealed."""
        reason = counted.reason or Reason.DEFECT
        plain = Quarantined(block.file, message.position, reason, counted.body).encode()
        # what has no bytes is known by where it stood
        name = keyed(self._names, counted.body or f"{block.file}@{message.position}".encode())
        return Made(name, "", "", Verdict.REJECTED, reason, seal(plain, self._public, QUARANTINE_INFO))


class _Reader:
    """Messages of any format to counted facts; the one place where a defect of ours in reading is caught."""

    def __init__(self, reading: Reading, envelopes: Envelopes) -> None:
        self._reading, self._envelopes = reading, envelopes

    def read(self, form: Format, message: Message) -> list[Counted]:
        body = message.body
        try:
            if form is Format.NDJSON:
                return self._envelopes.line(body)
            if form is Format.HL7:
                return [Counted(body, hl7_events.read(body, self._reading), None)]
            if form is Format.JSON:
                return self._envelopes.document(body)
            return [rejected(body, _UNREADABLE[form])]
        except MessageError as error:
            return [rejected(body, error.reason)]
        except Exception as defect:  # noqa: BLE001  ours: the message is sealed, and the alarm names no value
            _LOG.error("defect in decode: %s", type(defect).__name__)
            return [rejected(body, Reason.DEFECT)]


def reader(policy: Policy, verdicts: SignedVerdicts | None = None) -> _Reader:
    """The reader of the policy's source. `verdicts`: reads those of reviewers, for which it takes keys."""
    profile = reading.of(policy)
    return _Reader(profile, Envelopes(profile, policy.purposes, hl7_events.read, verdicts))


def _dated(fact: AnyFact) -> int:
    """When a fact says that something happened, for the newest of a run; BEGINNING if it does not say."""
    if isinstance(fact, Milestone):
        return BEGINNING if fact.time is None or not fact.counted else fact.time
    if isinstance(fact, Consent):
        return BEGINNING if fact.given == FOREVER else fact.given
    if isinstance(fact, Judgement):
        return fact.said
    return BEGINNING
