"""Consent: where an authorization is needed an event leaves only under one permit that grounds it and holds to the
instant of disclosure; elsewhere it leaves unless a denial stops it.

Read top to bottom; nothing here knows a clock, a file or a message format. A `Consent` is one rule of one version of
one document, and stands for itself: what a nested provision inherits or excepts, its reader has worked out already.

    1. denials    what the patient refused, and since when
    2. permits    what the patient allowed: for this purpose, this recipient, this action, and until when; what other
                  versions and copies of the same document do to it stands in `consent_versions`
    3. standing   both together: how a patient stands on one route at the horizon
    4. decide     one event against that standing

What is specially protected leaves only under a permit that names all of its classes, and such a permit is for nothing
else: a general one is no consent to disclose psychotherapy notes (45 CFR 164.508(a)(2)) or what 42 CFR 2.31 protects.

Missing, expired, out of scope: suppressed. Not understood, contradictory, or of a patient whose identity changed:
review. Nothing is ever inferred in favour of a release.

Sources: 45 CFR 164.508(b)(5) (revocation), (c)(1) (what an authorization must name), 164.510(b), 164.512(i) (waiver of
authorization), FHIR R4 Consent, DESIGN section 3. Times in microseconds since 1970 UTC.
"""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from schemas.event import ALSO, Consent, Kind, Says
from schemas.instant import BEGINNING, FOREVER
from schemas.outcome import Reason, Verdict
from transforms.rules.consent_versions import contradicted, ended, vague

DISCLOSE = "disclose"
HARMLESS = frozenset({"collect", "correct"})  # a denial of these alone leaves disclosure as it is


class Scope(NamedTuple):
    """What a route asks of consent.

    `stopped_by` are its purpose and all broader ones; `recipients` the names of its destination's organisation;
    `scopes` the FHIR consent scopes under which a permit for it may be given; `wait` how long after the event a permit
    may be given; `needs_permit` is False where the basis is not an authorization (aggregates, a waiver: a denial still
    stops). [`begins`, `ends`) are the dates of a waiver: outside of them the route decides nothing.
    """

    purpose: str
    stopped_by: frozenset[str]
    recipients: frozenset[str]
    scopes: frozenset[str]
    wait: int
    needs_permit: bool
    begins: int = BEGINNING
    ends: int = FOREVER


class Permit(NamedTuple):
    """A permit in hand: when it was given, what it covers [start, end), and until when it holds, renewals included."""

    given: int
    start: int
    end: int
    until: int
    fact: Consent


class Standing(NamedTuple):
    """How one patient stands on one route at one horizon. `otherwise` answers an event that no permit grounds."""

    permits: tuple[Permit, ...]
    objected: bool  # a denial or an unclear consent is in hand, lifted or not
    confirmed: int  # when the patient first gave a permit, whatever for, since the identity last changed
    otherwise: tuple[Verdict, Reason]
    facts: tuple[Consent, ...]  # what `otherwise` rests on


# --- 1. denials ----------------------------------------------------------------------------------------------------


def denies(consent: Consent, scope: Scope, kind: Kind | None = None, classes: Sequence[str] = ()) -> bool:
    """A denial binds a route unless it clearly speaks of something else: a criterion that is absent matches all.

    `kind` is the milestone in question; None stands for any, which a denial of whatever milestone binds. `classes` are
    those of the event: a denial that names classes binds what is of any of them.
    """
    if consent.says is not Says.DENY:
        return False
    if consent.kinds is not None and kind is not None and kind not in consent.kinds:
        return False
    if consent.classes is not None and not set(consent.classes) & set(classes):
        return False
    if consent.purposes and not scope.stopped_by & set(consent.purposes):
        return False
    if consent.actions and HARMLESS.issuperset(consent.actions):
        return False
    # Only an actor in the recipient's role says to whom; any other role ("?…") leaves the criterion absent. A name
    # counts whatever stands before it: a role, or the base URL of an absolute reference. A route that names nobody
    # (aggregates may) may lead to anybody.
    named = [one for one in consent.recipients if not one.startswith("?")]
    names = [name for one in consent.recipients for name in one.split(ALSO)]
    return not named or not scope.recipients or any(name.endswith(tuple(scope.recipients)) for name in names)


def unclear_about(consent: Consent, scope: Scope) -> bool:
    """What is not understood may mean any route, unless all that it can mean is to permit other purposes."""
    return consent.says is Says.UNCLEAR and not (consent.purposes and scope.stopped_by.isdisjoint(consent.purposes))


def said(consent: Consent) -> int:
    """When a denial was surely said and in effect: a permit must come after both to lift it."""
    return max(consent.said, consent.start)


# --- 2. permits ----------------------------------------------------------------------------------------------------


def permits(consent: Consent, scope: Scope, kind: Kind | None = None, classes: Sequence[str] = ()) -> bool:
    """A permit must name this purpose and this recipient; its action, if any, is disclosure; its scope fits; if it is
    narrowed to some milestones, this is one of them; and it names every class of an event that is specially protected,
    none for any other event.

    Aggregates have no recipient and need no permit: one that names their purpose can only lift a denial of them.
    """
    return (
        consent.says is Says.PERMIT
        and scope.purpose in consent.purposes
        and (not scope.needs_permit or any(_is(one, scope.recipients) for one in consent.recipients))
        and (not consent.actions or DISCLOSE in consent.actions)
        and (not consent.scope or consent.scope in scope.scopes)
        and (consent.kinds is None or kind in consent.kinds)
        and _names(consent, classes)
    )


def _names(consent: Consent, classes: Sequence[str]) -> bool:
    """Does a permit name all classes of an event? One that names any is for specially protected events alone."""
    if consent.classes is None:
        return not classes
    return bool(classes) and set(classes) <= set(consent.classes)


def _is(actor: str, recipients: frozenset[str]) -> bool:
    """Is an actor the recipient? Every name that the document gives it must be one of the recipient's."""
    return recipients.issuperset(actor.split(ALSO))


def until_majority(consents: Sequence[Consent], adult_at: int) -> Sequence[Consent]:
    """What a parent permitted for a minor (45 CFR 164.502(g)(3)) ends when the patient comes of age (BEGINNING: it is
    not known when); a denial does not."""
    if adult_at == BEGINNING:
        return consents
    return [
        replace(one, end=adult_at)
        if one.guardian and one.says is Says.PERMIT and one.given < adult_at < one.end
        else one
        for one in consents
    ]


def _vague_until(permit: Consent) -> int:
    """The end of the month or year in which a permit was given, up to which it may not have been; BEGINNING for one of
    a day or finer, which counts from its first instant."""
    return permit.said if vague(permit) else BEGINNING


def renewed(one: Consent, end: int, others: Sequence[tuple[Consent, int]]) -> int:
    """Until when a permit holds that ends at `end`: each renewal was given and began while the one before held, and
    covers no less data (dataPeriod) and no fewer classes than the permit."""
    others = [(o, o_end) for o, o_end in others if o.data_start <= one.data_start and one.data_end <= o.data_end]
    if one.classes is not None:
        others = [(o, o_end) for o, o_end in others if set(one.classes) <= set(o.classes or ())]
    reached = True
    while reached:
        reached = False
        for other, other_end in others:
            if max(other.given, other.start, _vague_until(other)) <= end < other_end:
                end, reached = other_end, True
    return end


# --- 3. standing ---------------------------------------------------------------------------------------------------


def standing(
    consents: Sequence[Consent],
    changed: int,
    scope: Scope,
    horizon: int,
    kind: Kind | None = None,
    classes: Sequence[str] = (),
) -> Standing:
    """How a patient stands on a route, for milestones of one kind where a rule is narrowed to kinds (None: for any),
    and for what is of exactly these classes of specially protected information. `changed` is when the patient's
    identity last changed (BEGINNING: never)."""
    if not scope.begins <= horizon < scope.ends:
        return _TOO_EARLY if horizon < scope.begins else _OVER
    if not consents and changed == BEGINNING:
        return _SILENT if scope.needs_permit else _FREE
    denials = [c for c in consents if denies(c, scope, kind, classes)]
    unclear = [c for c in consents if unclear_about(c, scope)]
    refused = max((said(c) for c in denials), default=BEGINNING)
    confused = max((said(c) for c in unclear), default=BEGINNING)
    since = max(refused, confused, changed)
    objected = bool(denials or unclear)

    candidates = sorted(
        (c for c in consents if permits(c, scope, kind, classes)), key=lambda c: (c.given, c.key, c.what, c.rule)
    )
    contradiction = [c for c in candidates if contradicted(c, consents)]
    clear = [  # the permits that were given by now and never taken back from the start
        (one, end)
        for one in candidates
        if one.given <= horizon and one not in contradiction and (end := ended(one, consents)) is not None
    ]
    last = clear[-1][0].given if clear else BEGINNING
    fit = [(one, end) for one, end in clear if since < one.given]  # given after all that speaks against them
    in_hand = tuple(
        Permit(one.given, start, min(end, one.data_end), renewed(one, end, fit), one)
        for one, end in fit
        for start in [max(one.start, one.data_start, _vague_until(one))]
    )

    confirmed = BEGINNING if changed == BEGINNING else _confirmed(consents, changed, horizon)

    def answer(verdict: Verdict, reason: Reason, facts: Sequence[Consent] = ()) -> Standing:
        if len(facts) > 1:  # of several rules of one version, one
            facts = list({fact.what: fact for fact in facts}.values())
        return Standing(in_hand, objected, confirmed, (verdict, reason), tuple(facts))

    if denials and last <= refused:
        return answer(Verdict.SUPPRESSED, Reason.DENIED, denials)
    if unclear and last <= confused:
        return answer(Verdict.REVIEW, Reason.CONSENT_UNCLEAR, unclear)
    if contradiction:
        return answer(Verdict.REVIEW, Reason.CONSENT_UNCLEAR, contradiction)
    if changed != BEGINNING and not fit and (confirmed == FOREVER or (scope.needs_permit and clear)):
        return answer(Verdict.REVIEW, Reason.IDENTITY_CHANGED)
    if denials:  # lifted, but only for what came after the permit and lies under it
        return answer(Verdict.SUPPRESSED, Reason.DENIED, denials)
    if unclear:
        return answer(Verdict.REVIEW, Reason.CONSENT_UNCLEAR, unclear)
    if not scope.needs_permit:
        return answer(Verdict.RELEASED, Reason.NO_CONSENT_NEEDED)
    if any(horizon < permit.until for permit in in_hand):
        return answer(Verdict.SUPPRESSED, Reason.NOT_COVERED, [permit.fact for permit in in_hand])
    if candidates:
        return answer(Verdict.SUPPRESSED, _why_ended(candidates[-1], horizon), candidates)
    if any(c.says is Says.PERMIT for c in consents):
        return answer(Verdict.SUPPRESSED, Reason.OUT_OF_SCOPE, [c for c in consents if c.says is Says.PERMIT])
    return answer(Verdict.SUPPRESSED, Reason.NO_CONSENT)


def _confirmed(consents: Sequence[Consent], changed: int, horizon: int) -> int:
    """When the patient first gave a permit after the identity changed. A denial never settles whose record this is."""
    given = [
        max(c.given, _vague_until(c))
        for c in consents
        if c.says is Says.PERMIT and changed < c.given <= horizon
        if not contradicted(c, consents) and ended(c, consents) is not None
    ]
    return min(given, default=FOREVER)


_SILENT = Standing((), False, BEGINNING, (Verdict.SUPPRESSED, Reason.NO_CONSENT), ())
_FREE = Standing((), False, BEGINNING, (Verdict.RELEASED, Reason.NO_CONSENT_NEEDED), ())
_TOO_EARLY = Standing((), False, BEGINNING, (Verdict.SUPPRESSED, Reason.NOT_COVERED), ())  # before a waiver's dates
_OVER = Standing((), False, BEGINNING, (Verdict.SUPPRESSED, Reason.EXPIRED), ())  # after them


# --- 4. decide -----------------------------------------------------------------------------------------------------


def decide(
    time: int, span: int, known: Standing, scope: Scope, horizon: int
) -> tuple[Verdict, Reason, tuple[Consent, ...]]:
    """One event against a standing: released under one permit that grounds it and holds, else the standing's answer.

    A permit grounds an event if it was given no later than the event's time plus the wait and covers all of the event;
    one that was given after the event fills silence, never an objection. It holds if it, or its renewals without a
    gap, reach beyond the horizon.
    """
    over: Permit | None = None
    for permit in known.permits:
        if permit.given > time + scope.wait or (permit.given > time and known.objected):
            continue
        if not (permit.start <= time < permit.end and time + span <= permit.end):
            continue
        if horizon < permit.until:
            return Verdict.RELEASED, Reason.PERMITTED, (permit.fact,)
        over = permit
    if over is not None and scope.needs_permit:
        return Verdict.SUPPRESSED, _why_ended(over.fact, horizon), (over.fact,)
    verdict, reason = known.otherwise
    if verdict is Verdict.RELEASED and known.confirmed > time + scope.wait:
        return Verdict.REVIEW, Reason.IDENTITY_CHANGED, ()
    return verdict, reason, known.facts


def _why_ended(permit: Consent, horizon: int) -> Reason:
    if permit.given > horizon:
        return Reason.NOT_COVERED
    if permit.end == BEGINNING:
        return Reason.PERMIT_INCOMPLETE
    return Reason.EXPIRED if permit.end <= horizon else Reason.REVOKED
