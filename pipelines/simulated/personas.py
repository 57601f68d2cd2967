"""Who comes to the simulated hospital: what each persona signs, what befalls it, and what must become of its visits.

No rule of consent is evaluated: each row states both what is said and what follows from it, so the truth is known by
construction. `long ago`, `after` … name instants of `hospital.calendar`; none lies near a border.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.outcome import Reason

SUPPORT, VISIBLE, MARKETING, OPERATIONS = "PATSUPPORT", "HCPVISIBLE", "HMARKT", "HOPERAT"
RESEARCH = "CLINTRCH"
BOTH = (SUPPORT, VISIBLE)
EVERY = (*BOTH, RESEARCH, MARKETING, OPERATIONS)


class Said(NamedTuple):
    """One version of one consent document. `given`, `begins` and `until` name instants of the calendar.

    `says` is permit, deny, or illegible: a document of which only its patient can be read. Without a recipient or a
    purpose the document names none. `begins` is `given` unless it says otherwise. `excepted` are the purposes that a
    nested provision denies. `guardian`: a parent signed it.

    `form` is the code of the form that was signed; the document then names nothing but that, in `by`: category or
    policyRule of a FHIR Consent, or an HL7 v2 CON segment. `labels` are the security labels that it speaks of alone
    (v3-ActCode).
    """

    says: str
    purposes: tuple[str, ...]
    given: str = "long ago"
    until: str = "never"
    number: int = 1
    version: int = 1
    status: str = "active"
    recipient: str = "crm"
    excepted: tuple[str, ...] = ()
    begins: str = ""
    scope: str = "patient-privacy"
    guardian: bool = False
    form: str = ""
    by: str = ""
    labels: tuple[str, ...] = ()


class Persona(NamedTuple):
    """`withheld`: the purposes under which the patient's visits do not cross, and why; under all others they do.

    `ends`: what ends a release that was right until then, once it arrives: the "last" thing said, the "first" one
    running out, or "news" of the patient. Without it the purposes of `withheld` never crossed.
    `twist`: what happens besides consent; hospital.py reads it.
    """

    name: str
    weight: int
    said: tuple[Said, ...]
    withheld: Mapping[str, Reason] = {}
    ends: str = ""
    twist: str = ""


def _why(reason: Reason, *purposes: str) -> dict[str, Reason]:
    return dict.fromkeys(purposes or BOTH, reason)


PERMIT = Said("permit", BOTH)
ENDED = PERMIT._replace(given="after", version=2, status="inactive")
AGAIN = PERMIT._replace(given="granted again", number=3)
DENY = Said("deny", BOTH, number=2)
FORM = Said("permit", (), "before", form="patient-support")
CON = FORM._replace(by="CON")
PART_2 = PERMIT._replace(number=3, labels=("ETH",))  # written consent under 42 CFR 2.31
PARENT = PERMIT._replace(guardian=True)
STUDY = Said("permit", (RESEARCH,), number=3, recipient="crm-research", scope="research")
RETIRED = "merged, the record retired"
UNCLEAR = _why(Reason.CONSENT_UNCLEAR)
UNCLEAR_TO_ALL = _why(Reason.CONSENT_UNCLEAR, *EVERY)
OUT_OF_SCOPE = _why(Reason.OUT_OF_SCOPE)
MERGED = _why(Reason.IDENTITY_CHANGED, *EVERY)

PERSONAS = (
    # The first patient is the story: enrolled, discharged, revoked.
    Persona("revoked", 6, (PERMIT, ENDED), _why(Reason.REVOKED), "last", "inpatient"),
    Persona("permits both", 28, (PERMIT,)),
    Persona("permits both apart", 7, (Said("permit", (SUPPORT,)), Said("permit", (VISIBLE,), number=2))),
    Persona("permits support", 7, (Said("permit", (SUPPORT,)),), _why(Reason.OUT_OF_SCOPE, VISIBLE)),
    Persona("permits visibility", 7, (Said("permit", (VISIBLE,)),), _why(Reason.OUT_OF_SCOPE, SUPPORT)),
    # --- permits that are missing, over, or of something else
    Persona("never asked", 12, (), _why(Reason.NO_CONSENT)),
    Persona("asked, not signed", 2, (PERMIT._replace(status="draft"),), _why(Reason.NO_CONSENT)),
    Persona("expired before", 4, (PERMIT._replace(until="before"),), _why(Reason.EXPIRED)),
    Persona("expires after", 4, (PERMIT._replace(until="after"),), _why(Reason.EXPIRED), "first"),
    Persona("renewed", 2, (PERMIT._replace(until="later"), PERMIT._replace(given="after", number=2))),
    Persona("signs at the visit", 3, (PERMIT._replace(given="visit", begins="long ago"),), {}, "", "one visit"),
    Persona("signs too late", 2, (PERMIT._replace(given="after", begins="long ago"),), _why(Reason.NOT_COVERED)),
    Persona("other recipient", 3, (PERMIT._replace(recipient="registry"),), OUT_OF_SCOPE),
    Persona("treatment only", 3, (Said("permit", ("TREAT",)),), OUT_OF_SCOPE),
    # --- permits taken back, narrowed, denied
    Persona("denied", 4, (PERMIT, DENY._replace(given="after")), _why(Reason.DENIED), "last"),
    Persona(
        "denied support",
        3,
        (PERMIT, DENY._replace(given="after", purposes=(SUPPORT,))),
        _why(Reason.DENIED, SUPPORT),
        "last",
    ),
    Persona("granted again", 4, (PERMIT, DENY._replace(given="denied"), AGAIN), {}, "", "old visit, denied"),
    Persona(
        "narrowed",
        3,
        (PERMIT, Said("permit", (VISIBLE,), given="before", version=2)),
        _why(Reason.REVOKED, SUPPORT),
    ),
    Persona(
        "entered in error", 3, (PERMIT, ENDED._replace(status="entered-in-error")), _why(Reason.REVOKED), "last"
    ),
    Persona("declined", 2, (PERMIT._replace(status="rejected"),), _why(Reason.DENIED)),
    Persona("marketing denied", 4, (PERMIT, Said("deny", (MARKETING,), "before", number=2, recipient="")),
            _why(Reason.DENIED, MARKETING)),
    Persona("objects to everything", 2, (PERMIT, Said("deny", (), "after", number=2, recipient="")),
            _why(Reason.DENIED, *EVERY), "last"),
    Persona("all but visibility", 3, (PERMIT._replace(excepted=(VISIBLE,)),), _why(Reason.DENIED, VISIBLE)),
    # --- forms: what they stand for is the policy's
    Persona("form as category", 3, (FORM._replace(by="category"),)),
    Persona("form as policy", 3, (FORM._replace(by="policyRule"),)),
    Persona("form (CON)", 3, (CON,)),
    Persona("form, denied since", 2, (CON, DENY._replace(given="after")), _why(Reason.DENIED), "last"),
    Persona("form refused (CON)", 2, (CON._replace(says="deny"),), _why(Reason.DENIED)),
    Persona("form refused since (CON)", 2, (PERMIT, CON._replace(says="deny", given="after", number=2)),
            _why(Reason.DENIED), "last"),
    Persona("another form", 2, (FORM._replace(form="newsletter", by="category"),), UNCLEAR_TO_ALL),
    # --- consents that nobody understands
    # Its nested provision denies what its root permits: no reading of it lets anything out.
    Persona("unclear", 3, (PERMIT._replace(excepted=BOTH),), UNCLEAR_TO_ALL),
    Persona("illegible", 2, (PERMIT, Said("illegible", (), "after", version=2)), UNCLEAR_TO_ALL, "last"),
    Persona("unknown form (CON)", 2, (CON._replace(form="newsletter"),), UNCLEAR_TO_ALL),
    Persona("two copies differ", 2, (PERMIT, Said("permit", ("TREAT",))), UNCLEAR),
    # --- who the patient is
    Persona("merged", 3, (PERMIT,), MERGED, "news", "merged"),
    Persona("merged, signed since", 2, (PERMIT, AGAIN), {}, "", "merged long ago"),
    Persona("deceased", 3, (PERMIT,), _why(Reason.DECEASED), "news", "deceased"),
    Persona("minor", 3, (PERMIT,), _why(Reason.MINOR), "", "minor"),
    Persona("came of age", 2, (AGAIN,), {}, "", "old visit, under age"),
    Persona("parent permitted", 2, (PARENT,), _why(Reason.EXPIRED), "", "old visit, under age"),
    Persona("parent permitted, signed since", 2, (PARENT, AGAIN), {}, "", "old visit, under age"),
    Persona("parent permits", 2, (PARENT,), _why(Reason.MINOR), "", "minor"),
    Persona("parent signed the form (CON)", 1, (CON._replace(guardian=True),), _why(Reason.MINOR), "", "minor"),
    # --- what becomes of a visit
    Persona("cancelled", 5, (PERMIT,), {}, "", "cancelled"),
    Persona("cancelled newest", 2, (PERMIT,), {}, "", "cancelled newest"),
    Persona("cancelled, done again", 2, (PERMIT,), {}, "", "done again"),
    Persona("conflicting", 3, (PERMIT,), {}, "", "conflicting"),
    Persona("conflicting newest", 2, (PERMIT,), {}, "", "conflicting newest"),
    Persona("sensitive", 3, (PERMIT,), {}, "", "sensitive"),
    Persona("sensitive newest", 3, (PERMIT,), {}, "", "sensitive newest"),
    Persona("substance use, consented", 3, (PERMIT, PART_2), {}, "", "substance use"),
    Persona("sensitive, HIV consented", 2, (PERMIT, PART_2._replace(labels=("HIV",))), {}, "", "sensitive"),
    Persona("substance use, HIV refused", 2, (PERMIT, PART_2, DENY._replace(given="after", labels=("HIV",))), {}, "",
            "substance use"),
    Persona("no time", 2, (PERMIT,), {}, "", "no time"),
    Persona("two feeds differ", 3, (PERMIT,), {}, "", "two feeds differ"),
    Persona("constant control id", 3, (PERMIT,), {}, "", "kiosk"),
    # --- medication
    Persona("on track", 3, (PERMIT,), {}, "", "on track"),
    Persona("lapsed", 3, (PERMIT,), {}, "", "lapsed"),
    Persona("never filled", 2, (PERMIT,), {}, "", "never filled"),
    Persona("refilled", 2, (PERMIT,), {}, "", "refilled"),
    Persona("refilled late", 2, (PERMIT,), {}, "", "refilled late"),
    Persona("stopped", 2, (PERMIT,), {}, "", "stopped"),
    Persona("stopped, never filled", 1, (PERMIT,), {}, "", "stopped, never filled"),
    Persona("lapsed, never asked", 2, (), _why(Reason.NO_CONSENT), "", "lapsed"),
    Persona("lapsed, visible only", 1, (Said("permit", (VISIBLE,)),), _why(Reason.OUT_OF_SCOPE, SUPPORT), "", "lapsed"),
    Persona("on track, revoked", 2, (PERMIT, ENDED), _why(Reason.REVOKED), "last", "on track"),
    Persona("refilled, denied", 1, (PERMIT, DENY._replace(given="later")), _why(Reason.DENIED), "last", "refilled"),
    # --- studies
    Persona("candidate", 3, (PERMIT, STUDY), {}, "", "candidate"),
    Persona("candidate, study only", 2, (STUDY,), OUT_OF_SCOPE, "", "candidate"),
    Persona("candidate, never asked", 2, (), _why(Reason.NO_CONSENT, *BOTH, RESEARCH), "", "candidate"),
    Persona("candidate, support only", 2, (PERMIT,), _why(Reason.OUT_OF_SCOPE, RESEARCH), "", "candidate"),
    Persona("candidate, other recipient", 1, (PERMIT, STUDY._replace(recipient="crm")),
            _why(Reason.OUT_OF_SCOPE, RESEARCH), "", "candidate"),
    Persona("candidate, other scope", 1, (PERMIT, STUDY._replace(scope="treatment")),
            _why(Reason.OUT_OF_SCOPE, RESEARCH), "", "candidate"),
    Persona("candidate, revoked", 2, (PERMIT, STUDY, STUDY._replace(given="after", version=2, status="inactive")),
            _why(Reason.REVOKED, RESEARCH), "last", "candidate"),
    Persona("candidate, no more", 2, (PERMIT, STUDY), {}, "", "candidate, no more"),
    Persona("candidate, too early", 1, (PERMIT, STUDY), {}, "", "candidate, too early"),
    Persona("candidate, closed", 1, (PERMIT, STUDY), {}, "", "candidate, closed"),
    Persona("candidate, unknown study", 1, (PERMIT, STUDY), {}, "", "candidate, unknown study"),
)  # fmt: skip
