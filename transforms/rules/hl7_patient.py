"""Which patient an HL7 v2 message is about.

    one patient  PID-3, in the order of the policy's identifier types (CX.5); what only tightens: each that may be used
    a merge      PID-3 and MRG-1, -2, -4, whatever their type
    system       CX.4, else the sender (MSH-4, else MSH-3)

Sources: HL7 v2.8 chapters 2A (CX) and 3 (PID, MRG); DESIGN section 3, Identity.
"""

from schemas.errors import MessageError
from schemas.outcome import Reason
from transforms.rules.hl7 import Hl7Message, Repetition, Segment
from transforms.rules.identity import MOST_NUMBERS, NEVER_SYSTEMS, Identifier, preferred, usable
from transforms.rules.reading import Reading


def patient(people: list[Segment], header: Segment, reading: Reading) -> str:
    """The patient key of a message that is about one patient; "" if it cannot be read. Raises NO_PATIENT if the PID
    segments of its groups name several: nobody says which of them the rest is about."""
    keys = {preferred(_identifiers(one.repeats(3), header), reading.identity_types) for one in people} or {""}
    if len(keys) > 1:
        raise MessageError(Reason.NO_PATIENT)
    return keys.pop()


def keys(people: list[Segment], header: Segment, reading: Reading) -> frozenset[str]:
    """The patient keys of all identifiers of these PID segments that may be used: what only tightens is told to each,
    since the next message may name the patient by another one. Raises MessageError of too many, which are no one's."""
    found = [identifier for one in people for identifier in _identifiers(one.repeats(3), header)]
    every = usable(found, reading.identity_types)
    if len(every) > MOST_NUMBERS:
        raise MessageError(Reason.NO_PATIENT)
    return every


def sides(message: Hl7Message, header: Segment, reading: Reading) -> tuple[str, ...]:
    """The patient keys of a merge, sorted: of every identifier in PID-3 and MRG-1, -2 and -4, of whatever type."""
    found = [
        identifier
        for name, fields in (("PID", (3,)), ("MRG", (1, 2, 4)))
        for segment in message.every(name)
        for field in fields
        for identifier in _identifiers(segment.repeats(field), header)
    ]
    told = {preferred([one], (*reading.identity_types, one.type)) for one in found} - {""}
    if not told:
        raise MessageError(Reason.NO_PATIENT)
    return tuple(sorted(told))


def _identifiers(repetitions: list[Repetition], header: Segment) -> list[Identifier]:
    """CX repetitions: CX.1 value, CX.4 assigning authority (HD), CX.5 type."""
    found = []
    for one in repetitions:
        namespace, universal = one.value(4, 1), one.value(4, 2)
        if universal and f"urn:oid:{universal}" in NEVER_SYSTEMS:  # whatever the namespace before it says
            continue
        if namespace or not universal:
            system = namespace or header.value(4) or header.value(3)
            system = f"urn:id:{system}" if system else ""
        else:
            system = f"urn:oid:{universal}"
        found.append(Identifier(system, one.value(1).strip(), one.value(5)))
    return found
