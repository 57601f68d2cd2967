"""HL7 v2 CON segments to consent facts. A segment names a form and its state; what the form permits is the policy's.

    CON-2    consent type (table 0496), CON-3 form: one of them must be a form of the policy's consent-forms.yaml
    CON-6    text of this patient's own, CON-9 limitations: they may narrow it, hence unclear
    CON-11   status (table 0498): A active, R refused, X rescinded, P pending, B bypassed; L limited is unclear
    CON-10   how (table 0497): where the profile wants a signed document, a permit must be W, written, and CON-4 name it
    CON-13   when the patient decided; CON-14 from when it is in force; CON-15 until when
    CON-16   whether the patient was competent: N makes a permit unclear

A segment may ride on any message, and on many: it is one consent as long as it says the same. What is refused or
rescinded is denied as far as its form goes, of an unknown form whatever it may be. Bypassed is not consented.
Rule source: HL7 v2.8 chapter 9, CON; DESIGN section 3, Consent.
"""

from collections.abc import Sequence

from schemas.errors import MessageError
from schemas.event import Consent, Says, digest
from schemas.instant import BEGINNING, FOREVER, Instant, interval_from_hl7
from schemas.outcome import Reason
from transforms.rules.consent_forms import Form, form_of
from transforms.rules.hl7 import NULL, Segment
from transforms.rules.identity import idempotency_key
from transforms.rules.reading import Reading

STATUSES = {
    "A": Says.PERMIT,
    "R": Says.DENY,
    "X": Says.DENY,
    "P": Says.NOTHING,
    "B": Says.NOTHING,
}
WRITTEN = "W"  # 45 CFR 164.508(c)(1)(vi) wants a signature
OWN = frozenset({"", "1", "SEL"})  # CON-25, the consenter's relationship to the subject: the patient, or not said


def read(
    segments: Sequence[Segment],
    patients: Sequence[str],
    origin: str,
    sent: Instant | None,
    reading: Reading,
    *,
    counted: bool,
) -> list[Consent]:
    """One fact for each segment and each of the patients whose it may be: of several it is unclear, for all of them.
    `origin` is whose numbers and forms they are, `sent` the time of the message; `counted`: nothing else stands for the
    message, so the first of them does. Raises MessageError."""
    if not all(patients):
        raise MessageError(Reason.CONSENT_OF_NOBODY)
    alone = len(patients) == 1
    return [
        _fact(one, patient, origin, sent, reading, counted=counted and place == 0, alone=alone)
        for place, one in enumerate(segments)
        for patient in patients
    ]


def _fact(
    signed: Segment, patient: str, origin: str, sent: Instant | None, reading: Reading, *, counted: bool, alone: bool
) -> Consent:
    codes = [f"{one.value(3)}|{one.value(1)}" for one in signed.repeats(2)] + [f"CON-3|{signed.value(3)}"]
    form = form_of(codes, reading.consents)
    decided, begins, ends = (interval_from_hl7(signed.value(field), reading.zone) for field in (13, 14, 15))
    legible = all(
        found is not None or signed.field(field) in ("", NULL)
        for field, found in ((13, decided), (14, begins), (15, ends))
    )
    says = _says(signed, form, legible and decided is not None) if alone else Says.UNCLEAR
    if says is Says.PERMIT and reading.consents.documented and not (signed.value(4) and signed.value(10) == WRITTEN):
        says = Says.NOTHING
    dated = decided or sent  # a message can date a restriction, never a permit
    given, said = (dated.time, dated.time + max(dated.span - 1, 0)) if dated else (BEGINNING, FOREVER)
    start = begins.time if begins else BEGINNING
    end = ends.time + max(ends.span, 1) if ends else FOREVER
    permit = form if says is Says.PERMIT and form is not None else None
    if permit is not None:
        end = min(end, permit.end(given))
    # only a denial of a form that is known, and of nothing but that, is narrower than everything
    purposes = form.purposes if form is not None and says in (Says.PERMIT, Says.DENY) else ()
    name = f"{origin}|CON/{digest(*codes, signed.value(4)).hex()[:32]}"
    version = (-1, dated.time if dated else BEGINNING, "")
    actions, recipients, kinds = (permit.actions, permit.recipients, permit.kinds) if permit else ((), (), None)
    guardian = signed.value(25) not in OWN
    what = digest(
        patient, name, *version, says, given, said, start, end, purposes, actions, recipients, kinds, guardian
    )[:16]
    key = idempotency_key(origin, "CON", patient, name, str(version[1]), what)
    return Consent(
        key, patient, "CON", what, name, version, says, given, said, start, end, BEGINNING, FOREVER, "",
        purposes, actions, recipients, 0, kinds, counted, guardian,
    )  # fmt: skip


def _says(signed: Segment, form: Form | None, dated: bool) -> Says:
    """What the segment means. `dated`: it says when the patient decided, and all of its times are readable."""
    says = STATUSES.get(signed.value(11), Says.UNCLEAR)
    if says is not Says.PERMIT:
        return says
    limited = any(signed.field(field) not in ("", NULL) for field in (6, 9)) or signed.value(16) == "N"
    return Says.UNCLEAR if form is None or not dated or limited else Says.PERMIT
