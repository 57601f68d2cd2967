"""What is known of one patient between two calls, and what comes out of a call. Values only; the rule is `advance`."""

import msgspec

from schemas.event import AnyFact, Consent, Identity, Milestone, Person
from schemas.instant import BEGINNING
from schemas.outcome import Reason, Verdict


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """One verdict. `route` is "" for a message's own outcome (repeated, consent, …).

    `facts` are the consents that it rests on. `copy` numbers outcomes that are otherwise alike (repeats, rejects);
    `ordinal` counts the releases of one record, and `retracts` says up to which of them a retraction takes back.
    """

    event: AnyFact
    route: str
    verdict: Verdict
    reason: Reason
    facts: tuple[Consent, ...] = ()
    copy: int = 0
    ordinal: int = 0
    retracts: int = 0

    def __repr__(self) -> str:
        return f"Outcome({self.route}, {self.verdict}, {self.reason})"


class Pair(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """The unit of decision, (milestone, route). `settled` is its one counted verdict (held until then); `shown`: its
    CRM record shows it; `open`: its wait still runs; `ordinal`: how often it was released or taken back so far."""

    what: bytes
    route: str
    settled: Verdict
    shown: bool
    open: bool
    ordinal: int = 0


class Timeline(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that is known of one patient: copies of messages, consents (which never expire), changes of identity,
    demographics, and the pairs that are open, shown, or whose milestone may come again. `horizon` is the instant it was
    moved to."""

    copies: tuple[Milestone, ...] = ()
    consents: tuple[Consent, ...] = ()
    changes: tuple[Identity, ...] = ()
    people: tuple[Person, ...] = ()
    pairs: tuple[Pair, ...] = ()
    horizon: int = BEGINNING

    def __repr__(self) -> str:
        return "Timeline()"
