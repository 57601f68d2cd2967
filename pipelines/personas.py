"""Who comes to the simulated hospital: what each persona signs, what befalls it, and what must become of its visits.

No rule of consent is evaluated: each row states both what is said and what follows from it, so the truth is known by
construction. `long ago`, `after` … name instants of `hospital.calendar`; none lies near a border.
"""

from collections.abc import Mapping
from typing import NamedTuple

from schemas.outcome import Reason

SUPPORT, VISIBLE, MARKETING, OPERATIONS = "PATSUPPORT", "HCPVISIBLE", "HMARKT", "HOPERAT"
BOTH = (SUPPORT, VISIBLE)
EVERY = (*BOTH, MARKETING, OPERATIONS)


class Said(NamedTuple):
    """One version of one consent document. `given`, `begins` and `until` name instants of the calendar.

    `says` is permit, deny, or illegible: a document of which only its patient can be read. Without a recipient or a
    purpose the document names none. `begins` is `given` unless it says otherwise.
    """

    says: str
    purposes: tuple[str, ...]
    given: str = "long ago"
    until: str = "never"
    number: int = 1
    version: int = 1
    status: str = "active"
    recipient: str = "crm"
    nested: bool = False
    begins: str = ""


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
    # --- consents that nobody understands
    # Its nested provision denies what its root permits: no reading of it lets anything out.
    Persona("unclear", 3, (PERMIT._replace(nested=True),), UNCLEAR_TO_ALL),
    Persona("illegible", 2, (PERMIT, Said("illegible", (), "after", version=2)), UNCLEAR_TO_ALL, "last"),
    Persona("two copies differ", 2, (PERMIT, Said("permit", ("TREAT",))), UNCLEAR),
    # --- who the patient is
    Persona("merged", 3, (PERMIT,), MERGED, "news", "merged"),
    Persona("merged, signed since", 2, (PERMIT, AGAIN), {}, "", "merged long ago"),
    Persona("deceased", 3, (PERMIT,), _why(Reason.DECEASED), "news", "deceased"),
    Persona("minor", 3, (PERMIT,), _why(Reason.MINOR), "", "minor"),
    Persona("came of age", 2, (AGAIN,), {}, "", "old visit, under age"),
    # --- what becomes of a visit
    Persona("cancelled", 5, (PERMIT,), {}, "", "cancelled"),
    Persona("cancelled newest", 2, (PERMIT,), {}, "", "cancelled newest"),
    Persona("cancelled, done again", 2, (PERMIT,), {}, "", "done again"),
    Persona("conflicting", 3, (PERMIT,), {}, "", "conflicting"),
    Persona("conflicting newest", 2, (PERMIT,), {}, "", "conflicting newest"),
    Persona("sensitive", 3, (PERMIT,), {}, "", "sensitive"),
    Persona("sensitive newest", 3, (PERMIT,), {}, "", "sensitive newest"),
    Persona("no time", 2, (PERMIT,), {}, "", "no time"),
    Persona("two feeds differ", 3, (PERMIT,), {}, "", "two feeds differ"),
    Persona("constant control id", 3, (PERMIT,), {}, "", "kiosk"),
)  # fmt: skip
