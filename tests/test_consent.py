"""Consent: the sentences of the rule, one named case each; then what must hold of every set of consents."""

import os

import pytest
from builders import CRM, WAIT, a_consent, a_scope, at
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas.event import ALSO, Consent, Kind, Says
from schemas.instant import BEGINNING, DAY, FOREVER, HOUR
from schemas.outcome import Reason, Verdict
from transforms.rules.consent import Scope, decide, standing, until_majority
from transforms.rules.consent_versions import ended, repeated

RELEASED = (Verdict.RELEASED, Reason.PERMITTED)
FREE = (Verdict.RELEASED, Reason.NO_CONSENT_NEEDED)
NONE = (Verdict.SUPPRESSED, Reason.NO_CONSENT)
SCOPELESS = (Verdict.SUPPRESSED, Reason.OUT_OF_SCOPE)
UNCOVERED = (Verdict.SUPPRESSED, Reason.NOT_COVERED)
EXPIRED = (Verdict.SUPPRESSED, Reason.EXPIRED)
REVOKED = (Verdict.SUPPRESSED, Reason.REVOKED)
INCOMPLETE = (Verdict.SUPPRESSED, Reason.PERMIT_INCOMPLETE)
DENIED = (Verdict.SUPPRESSED, Reason.DENIED)
UNCLEAR = (Verdict.REVIEW, Reason.CONSENT_UNCLEAR)
CHANGED = (Verdict.REVIEW, Reason.IDENTITY_CHANGED)

PERMIT, DENY, ENDS, VOID, VAGUE, NOTHING = (
    Says.PERMIT, Says.DENY, Says.ENDS, Says.VOID, Says.UNCLEAR, Says.NOTHING,
)  # fmt: skip
Answer = tuple[Verdict, Reason]
UNNUMBERED = (-1, BEGINNING, "")  # the version of a Consent without meta


def answer(
    *consents: Consent,
    time: int = at(5),
    span: int = 0,
    horizon: int = at(8),
    changed: int = BEGINNING,
    scope: Scope | None = None,
    kind: Kind | None = None,
    classes: tuple[str, ...] = (),
) -> Answer:
    """What becomes of an event at hour 5, decided at hour 8."""
    scope = a_scope() if scope is None else scope
    verdict, reason, _ = decide(time, span, standing(consents, changed, scope, horizon, kind, classes), scope, horizon)
    return verdict, reason


def case(name: str, expected: Answer, *consents: Consent, **around: object) -> object:
    return pytest.param(consents, around, expected, id=name)


def check(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    assert answer(*consents, **around) == expected  # type: ignore[arg-type]
    assert answer(*reversed(consents), **around) == expected  # type: ignore[arg-type]


# --- grounds -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("no consent at all", NONE),
        case("a draft", NONE, a_consent(NOTHING)),
        case("a permit before the event", RELEASED, a_consent()),
        case("a permit at the instant of the event", RELEASED, a_consent(given=at(5))),
        case("a permit within the wait fills silence", RELEASED, a_consent(given=at(7))),
        case("a permit at the end of the wait", RELEASED, a_consent(given=at(5 + WAIT)), horizon=at(9)),
        case("a permit beyond the wait", UNCOVERED, a_consent(given=at(5 + WAIT) + 1), horizon=at(10)),
        case("a permit of some month covers nothing of that month", UNCOVERED, a_consent(said=at(0) + 2 * DAY)),
        case("a permit of some month covers what comes after it", RELEASED,
             a_consent(said=at(0) + 2 * DAY), time=at(49), horizon=at(50)),
        case("a permit of a day covers that day", RELEASED, a_consent(said=at(0) + 2 * DAY - 1)),
        case("a post-dated permit counts only from when it was given", UNCOVERED, a_consent(given=at(8) + 1)),
        case("a permit given at the horizon", RELEASED, a_consent(given=at(8))),
        case("a permit within the wait fills no denial", DENIED, a_consent(DENY, of=1), a_consent(given=at(7))),
        case("a permit within the wait fills no unclear consent", UNCLEAR,
             a_consent(VAGUE, of=1), a_consent(given=at(7))),
        case("the second of two covers it", RELEASED, a_consent(data_end=at(4)), a_consent(of=1, given=at(1))),
        case("each of two permits does half", UNCOVERED,
             a_consent(end=at(5)), a_consent(of=1, given=at(5 + WAIT) + 1), horizon=at(10)),
    ],
)  # fmt: skip
def test_grounds(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """One permit grounds the event: given no later than its time plus the wait, after the event only into silence."""
    check(consents, around, expected)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("its period begins with the event", RELEASED, a_consent(start=at(5))),
        case("its period begins later", UNCOVERED, a_consent(start=at(5) + 1)),
        case("its period ended with the event", EXPIRED, a_consent(end=at(5))),
        case("its data period begins with the event", RELEASED, a_consent(data_start=at(5))),
        case("its data period begins later", UNCOVERED, a_consent(data_start=at(5) + 1)),
        case("its data period ended with the event", UNCOVERED, a_consent(data_end=at(5))),
        case("its data period ended after the event: it holds on", RELEASED, a_consent(data_end=at(5) + 1)),
        case("a whole day inside its period", RELEASED, a_consent(end=at(5) + DAY), span=DAY, horizon=at(5) + DAY - 1),
        case("a whole day that ends after its period", UNCOVERED, a_consent(data_end=at(6)), span=DAY),
        case("a whole day that begins before its period", UNCOVERED, a_consent(start=at(6)), span=DAY),
    ],
)  # fmt: skip
def test_covers(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """The event, all of it where only its date is known, lies inside the period and the data period."""
    check(consents, around, expected)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("in force at the horizon", RELEASED, a_consent(end=at(8) + 1)),
        case("ended at the horizon", EXPIRED, a_consent(end=at(8))),
        case("renewed before it ended", RELEASED, a_consent(end=at(7)), a_consent(of=1, given=at(6))),
        case("renewed at the instant of its end", RELEASED,
             a_consent(end=at(7)), a_consent(of=1, given=at(7), start=at(7))),
        case("renewed too late", EXPIRED, a_consent(end=at(7)), a_consent(of=1, given=at(7) + 1, start=at(7) + 1)),
        case("renewed too late, to begin in time", EXPIRED,
             a_consent(end=at(9)), a_consent(of=1, given=at(9) + 1), horizon=at(10)),
        case("renewed in time, to begin too late", EXPIRED,
             a_consent(end=at(7)), a_consent(of=1, given=at(6), start=at(7) + 1)),
        case("renewed by two in turn", RELEASED,
             a_consent(end=at(6)), a_consent(of=1, given=at(5) + 1, start=at(6), end=at(7)),
             a_consent(of=2, given=at(6) + 1, start=at(7))),
        case("renewed by two, the one given first begins last", RELEASED,
             a_consent(end=at(10)), a_consent(of=1, given=at(9) + 1, start=at(11)),
             a_consent(of=2, given=at(9) + 2, end=at(11)), horizon=at(12)),
        case("renewed in some month, which may have been too late", EXPIRED,
             a_consent(end=at(7)), a_consent(of=1, given=at(1), said=at(1) + 2 * DAY)),
        case("replaced in some month by one that ends earlier", REVOKED,
             a_consent(version=(-1, at(2), ""), given=at(2)),
             a_consent(version=(-1, at(0), ""), given=at(0), said=at(0) + 2 * DAY, end=at(6))),
        case("renewed for another purpose", EXPIRED,
             a_consent(end=at(7)), a_consent(of=1, given=at(6), purposes=("HCPVISIBLE",))),
        case("renewed for data from a later time", EXPIRED,
             a_consent(end=at(10)), a_consent(of=1, given=at(9) + 1, data_start=at(4)), horizon=at(11)),
        case("renewed for data up to an earlier time", EXPIRED,
             a_consent(end=at(10)), a_consent(of=1, given=at(9) + 1, data_end=at(20)), horizon=at(11)),
        case("renewed for the same data", RELEASED,
             a_consent(end=at(10), data_start=at(4), data_end=at(20)),
             a_consent(of=1, given=at(9) + 1, data_start=at(4), data_end=at(20)), horizon=at(11)),
        case("of classes, renewed for the same ones", RELEASED, a_consent(end=at(7), classes=("hiv",)),
             a_consent(of=1, given=at(6), start=at(6), classes=("hiv",)), classes=("hiv",)),
        case("of two classes, renewed for one", EXPIRED, a_consent(end=at(7), classes=("genetic", "hiv")),
             a_consent(of=1, given=at(6), start=at(6), classes=("hiv",)), classes=("hiv",)),
        case("renewed by a post-dated permit", EXPIRED, a_consent(end=at(8)), a_consent(of=1, given=at(8) + 1)),
        case("a denial came between: the renewal carries nothing over", DENIED,
             a_consent(end=at(7)), a_consent(DENY, of=1, given=at(5) + 1), a_consent(of=2, given=at(6))),
    ],
)  # fmt: skip
def test_holds(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """A permit holds at the horizon, or was renewed without a gap."""
    check(consents, around, expected)


# --- denials -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("after the permit", DENIED, a_consent(), a_consent(DENY, of=1, given=at(3))),
        case("after the event", DENIED, a_consent(), a_consent(DENY, of=1, given=at(7))),
        case("known already, dated ahead of the horizon", DENIED, a_consent(), a_consent(DENY, of=1, given=at(20))),
        case("known already, to take effect ahead of the horizon", DENIED,
             a_consent(), a_consent(DENY, of=1, start=at(20))),
        case("said before a permit, in effect after it", DENIED,
             a_consent(given=at(2)), a_consent(DENY, of=1, start=at(3))),
        case("its period is over: only a permit lifts it", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), end=at(2))),
        case("lifted by a later permit", RELEASED, a_consent(DENY, of=1), a_consent(given=at(1))),
        case("not lifted by a permit of the same instant", DENIED,
             a_consent(DENY, of=1, given=at(1)), a_consent(given=at(1))),
        case("lifted for later events only", DENIED, a_consent(DENY, of=1, given=at(4)), a_consent(given=at(5) + 1)),
        case("lifted at the instant of the event", RELEASED, a_consent(DENY, of=1), a_consent(given=at(5))),
        case("lifted, refused again", DENIED,
             a_consent(DENY, of=1), a_consent(given=at(1)), a_consent(DENY, of=2, given=at(2))),
        case("only a date: it binds the permit of that day", DENIED,
             a_consent(DENY, of=1, given=at(0), said=at(24) - 1), a_consent(given=at(3))),
        case("only a date: lifted the day after", RELEASED,
             a_consent(DENY, of=1, given=at(0) - DAY, said=at(0) - 1), a_consent()),
        case("of unknown date: no permit comes after it", DENIED,
             a_consent(DENY, of=1, given=BEGINNING, said=FOREVER), a_consent()),
        case("lifted by no permit for another purpose", DENIED,
             a_consent(DENY, of=1), a_consent(given=at(1), purposes=("HCPVISIBLE",))),
        case("lifted by no permit to another recipient", DENIED,
             a_consent(DENY, of=1), a_consent(given=at(1), recipients=("Organization/other",))),
        case("lifted by no post-dated permit", DENIED, a_consent(DENY, of=1), a_consent(given=at(9))),
        case("denied, lifted, and the permit is over", DENIED,
             a_consent(DENY, of=1), a_consent(given=at(1), end=at(5))),
    ],
)  # fmt: skip
def test_denial(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """A denial stops at once; only a permit given strictly later lifts it, and only for later events."""
    check(consents, around, expected)


# One actor by its reference and its identifier: of the recipient both, or one of them of somebody else.
BOTH_NAMES = ALSO.join([CRM, "urn:limen:organization|crm"])
TORN = ALSO.join([CRM, "urn:limen:organization|other"])
OTHER_WAY = ALSO.join(["Organization/other", "urn:limen:organization|crm"])
BROAD = a_scope("CLINTRCH", broader=("HRESCH",))
RESEARCH = a_consent(purposes=("CLINTRCH",))


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("of this purpose", DENIED, a_consent(), a_consent(DENY, of=1, given=at(1), purposes=("PATSUPPORT",))),
        case("of this purpose among others", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), purposes=("HMARKT", "PATSUPPORT"))),
        case("of another purpose", RELEASED, a_consent(), a_consent(DENY, of=1, given=at(1), purposes=("HMARKT",))),
        case("of a broader purpose", DENIED,
             RESEARCH, a_consent(DENY, of=1, given=at(1), purposes=("HRESCH",)), scope=BROAD),
        case("of this recipient", DENIED, a_consent(), a_consent(DENY, of=1, given=at(1), recipients=(CRM,))),
        case("of this recipient by its other name", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), recipients=("urn:limen:organization|crm",))),
        case("of this recipient by an absolute reference", DENIED, a_consent(),
             a_consent(DENY, of=1, given=at(1), recipients=("https://ehr.example/fhir/Organization/crm",))),
        case("of another recipient", RELEASED,
             a_consent(), a_consent(DENY, of=1, given=at(1), recipients=("Organization/other",))),
        case("of this organisation in another role", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), recipients=("?" + CRM, "Organization/other"))),
        case("an actor in another role says nothing of the recipient", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), recipients=("?Organization/other",))),
        case("of disclosure", DENIED, a_consent(), a_consent(DENY, of=1, given=at(1), actions=("disclose",))),
        case("of use", DENIED, a_consent(), a_consent(DENY, of=1, given=at(1), actions=("use",))),
        case("of collection and correction alone", RELEASED,
             a_consent(), a_consent(DENY, of=1, given=at(1), actions=("collect", "correct"))),
        case("of collection and access", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), actions=("access", "collect"))),
        case("under another scope", DENIED, a_consent(), a_consent(DENY, of=1, given=at(1), scope="research")),
        case("of nothing in particular matches all", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), scope="")),
        case("refers to this recipient, identifies another", DENIED,
             a_consent(), a_consent(DENY, of=1, recipients=(TORN,))),
        case("refers to another, identifies this recipient", DENIED,
             a_consent(), a_consent(DENY, of=1, recipients=(OTHER_WAY,))),
        case("refers to this recipient, identifies another with a space", DENIED,
             a_consent(), a_consent(DENY, of=1, recipients=(ALSO.join([CRM, "urn:x|a b"]),))),
        case("identifies another, whose name holds this one and a space", RELEASED,
             a_consent(), a_consent(DENY, of=1, given=at(1), recipients=(f"urn:x|{CRM} too",))),
    ],
)  # fmt: skip
def test_what_a_denial_binds(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """A criterion that is absent from a denial matches all."""
    check(consents, around, expected)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("names no purpose", SCOPELESS, a_consent(purposes=())),
        case("names another purpose", SCOPELESS, a_consent(purposes=("HMARKT",))),
        case("names a broader purpose", SCOPELESS, a_consent(purposes=("HRESCH",)), scope=BROAD),
        case("names treatment", SCOPELESS, a_consent(purposes=("TREAT",))),
        case("names care management", SCOPELESS, a_consent(purposes=("CAREMGT",))),
        case("names treatment beside this purpose", RELEASED, a_consent(purposes=("PATSUPPORT", "TREAT"))),
        case("names no recipient", SCOPELESS, a_consent(recipients=())),
        case("names another recipient", SCOPELESS, a_consent(recipients=("Organization/other",))),
        case("names this recipient in another role", SCOPELESS, a_consent(recipients=("?" + CRM,))),
        case("names this recipient at another base", SCOPELESS,
             a_consent(recipients=("https://other.example/Organization/crm",))),
        case("names this recipient by its other name", RELEASED,
             a_consent(recipients=("urn:limen:organization|crm",))),
        case("names this recipient by both of its names", RELEASED, a_consent(recipients=(BOTH_NAMES,))),
        case("refers to this recipient, identifies another", SCOPELESS, a_consent(recipients=(TORN,))),
        case("refers to another, identifies this recipient", SCOPELESS, a_consent(recipients=(OTHER_WAY,))),
        case("names this recipient, and it in a word", SCOPELESS, a_consent(recipients=(f"{CRM} {CRM}",))),
        case("names this recipient beside one that is torn", RELEASED, a_consent(recipients=(TORN, CRM))),
        case("names no action", RELEASED, a_consent(actions=())),
        case("names another action", SCOPELESS, a_consent(actions=("collect", "use"))),
        case("under the scope of treatment", SCOPELESS, a_consent(scope="treatment")),
        case("under no scope", RELEASED, a_consent(scope="")),
    ],
)  # fmt: skip
def test_what_a_permit_must_name(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """A permit states purpose and recipient (45 CFR 164.508(c)(1)(iii)-(iv)); treatment never grounds a CRM write."""
    check(consents, around, expected)


# --- versions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("a newer one ends the older when it takes effect", REVOKED,
             a_consent(), a_consent(version=2, given=at(6), purposes=("HMARKT",))),
        case("a newer one that begins later leaves the older in force till then", RELEASED,
             a_consent(), a_consent(version=2, given=at(6), start=at(9), purposes=("HMARKT",))),
        case("a newer one renews the older", RELEASED, a_consent(), a_consent(version=2, given=at(6))),
        case("an older one ends nothing", RELEASED, a_consent(version=2), a_consent(version=1, purposes=("HMARKT",))),
        case("a newer draft ends it", REVOKED, a_consent(), a_consent(NOTHING, version=2, given=at(6))),
        case("a newer one of another Consent ends nothing", RELEASED,
             a_consent(), a_consent(of=1, version=2, purposes=("HMARKT",))),
        case("inactive ends it from its date", REVOKED, a_consent(), a_consent(ENDS, version=2, given=at(7))),
        case("inactive before the event", REVOKED, a_consent(), a_consent(ENDS, version=2, given=at(4))),
        case("inactive from a date ahead", RELEASED, a_consent(), a_consent(ENDS, version=2, given=at(9))),
        case("inactive, the earliest of several", REVOKED,
             a_consent(), a_consent(ENDS, version=2, given=at(7)), a_consent(ENDS, version=3, given=at(20))),
        case("inactive of an older version ends nothing", RELEASED,
             a_consent(version=2), a_consent(ENDS, version=1, given=at(7))),
        case("inactive of unknown date", REVOKED,
             a_consent(), a_consent(ENDS, version=2, given=BEGINNING, said=FOREVER)),
        case("entered in error: it never was", REVOKED, a_consent(), a_consent(VOID, version=2, given=at(20))),
        case("a denying version voids it, though it denies something else", REVOKED,
             a_consent(), a_consent(DENY, version=2, given=at(20), purposes=("HMARKT",))),
        case("an error lifts no denial", DENIED, a_consent(DENY, of=1), a_consent(VOID, of=1, version=2, given=at(1))),
        case("inactive lifts no denial", DENIED, a_consent(DENY, of=1), a_consent(ENDS, of=1, version=2, given=at(1))),
        case("a newer permit lifts a denial only if it was given later", DENIED,
             a_consent(DENY, given=at(2)), a_consent(version=2, given=at(1))),
        case("a newer permit given later lifts it", RELEASED,
             a_consent(DENY, given=at(2)), a_consent(version=2, given=at(3))),
        case("versions that cannot be compared: an ending is never overlooked", REVOKED,
             a_consent(version=3), a_consent(ENDS, version=(-1, at(6), ""), given=at(6))),
        case("versions of text have no order", REVOKED,
             a_consent(version=(-1, BEGINNING, "b")), a_consent(ENDS, version=(-1, BEGINNING, "a"), given=at(6))),
        case("a version nought is a number", RELEASED, a_consent(version=1), a_consent(ENDS, version=0, given=at(6))),
        case("one is newer than a version nought", RELEASED,
             a_consent(version=0, purposes=("HMARKT",)), a_consent(version=1)),
        case("a version nought, ended by a version one", REVOKED,
             a_consent(version=0), a_consent(ENDS, version=1, given=at(6))),
        case("versions nought and of a time of update cannot be compared", REVOKED,
             a_consent(version=0), a_consent(ENDS, version=(-1, at(6), ""), given=at(6))),
        case("versions by time of update", RELEASED,
             a_consent(version=(-1, at(6), "")), a_consent(ENDS, version=(-1, at(5), ""), given=at(5))),
        case("two contents of one version ground nothing", UNCLEAR, a_consent(), a_consent(end=at(20))),
        case("two contents of one version in two messages ground nothing", UNCLEAR,
             a_consent(key=1), a_consent(key=2, end=at(20))),
        case("two contents of one message ground nothing", UNCLEAR,
             a_consent(key=1), a_consent(of=1, key=1, end=at(20))),
        case("two contents of one version: another Consent grounds", RELEASED,
             a_consent(), a_consent(end=at(20)), a_consent(of=1)),
        case("two contents of one version: the denial binds", DENIED, a_consent(), a_consent(DENY, given=at(1))),
        case("two contents of one version: what they end is ended", REVOKED,
             a_consent(), a_consent(version=2, given=at(6)), a_consent(version=2, given=at(6), end=at(20))),
        case("two equal copies are one", RELEASED, a_consent(), a_consent()),
        case("with a version and without, the same otherwise", RELEASED, a_consent(), a_consent(version=UNNUMBERED)),
        case("by number, by time and by nothing", RELEASED,
             a_consent(), a_consent(version=UNNUMBERED), a_consent(version=(-1, at(6), ""))),
        case("with a version and without, for less", REVOKED, a_consent(), a_consent(version=UNNUMBERED, end=at(20))),
        case("with a version and without, given at another time", REVOKED,
             a_consent(given=at(1)), a_consent(version=UNNUMBERED)),
        case("with a version and without, then ended", REVOKED,
             a_consent(), a_consent(version=UNNUMBERED), a_consent(ENDS, version=2, given=at(6))),
        case("with a version and without, and void without", REVOKED,
             a_consent(), a_consent(VOID, version=UNNUMBERED), a_consent(version=(-1, at(6), ""))),
    ],
)  # fmt: skip
def test_versions(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """Versions compare only within one Consent, and no version lifts a denial."""
    check(consents, around, expected)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("the other rules of a version end nothing in it", RELEASED,
             a_consent(), a_consent(DENY, rule=1, purposes=("HMARKT",))),
        case("a denial among them binds", DENIED, a_consent(), a_consent(DENY, rule=1, purposes=("PATSUPPORT",))),
        case("a newer version that denies something besides what it permits voids nothing", REVOKED,
             a_consent(), a_consent(DENY, version=2, rule=1, given=at(6), purposes=("HMARKT",))),
        case("and ends the older one only when it takes effect", RELEASED,
             a_consent(), a_consent(DENY, version=2, rule=1, given=at(9), purposes=("HMARKT",))),
        case("one that only denies takes it back from the start", REVOKED,
             a_consent(), a_consent(DENY, version=2, rule=0, given=at(9), purposes=("HMARKT",))),
    ],
)  # fmt: skip
def test_rules_of_one_version(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """A version may permit and deny; only one whose rule 0 denies permits nothing."""
    one_version = [replace(c, what=b"same") if c.version == (1, 0, "") else c for c in consents]
    check(tuple(one_version), around, expected)


def test_a_permit_said_again_stands_whichever_version_is_the_newer() -> None:
    """Only where that cannot be told, and only if it is the very same: one rule of the other version is enough."""
    one, bare, newer = a_consent(), a_consent(version=UNNUMBERED), a_consent(version=2)
    narrowed = replace(a_consent(DENY, version=UNNUMBERED, rule=1, purposes=("HMARKT",)), what=bare.what)
    assert repeated(one, [one, bare, newer]) == {bare.what}
    assert repeated(bare, [one]) == {one.what} and repeated(one, [newer]) == frozenset()
    assert ended(one, [one, bare, narrowed]) == ended(bare, [one, bare]) == FOREVER
    assert ended(one, [one, newer]) == ended(one, [one, narrowed]) == at(0)
    others = [replace(bare, patient="urn:id:MRN\x1f2"), replace(bare, guardian=True), replace(bare, rule=1)]
    assert repeated(one, [*others, a_consent(of="other", version=UNNUMBERED)]) == frozenset()


DISCHARGES = (Kind.DISCHARGED, Kind.ADMITTED)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("a permit for this kind", RELEASED, a_consent(kinds=DISCHARGES), kind=Kind.DISCHARGED),
        case("a permit for other kinds", SCOPELESS, a_consent(kinds=DISCHARGES), kind=Kind.BOOKED),
        case("a permit for no kind", SCOPELESS, a_consent(kinds=()), kind=Kind.DISCHARGED),
        case("a permit for some kinds, the kind unknown", SCOPELESS, a_consent(kinds=DISCHARGES)),
        case("a denial of this kind", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), kinds=DISCHARGES), kind=Kind.DISCHARGED),
        case("a denial of other kinds", RELEASED,
             a_consent(), a_consent(DENY, of=1, given=at(1), kinds=DISCHARGES), kind=Kind.BOOKED),
        case("a denial of some kinds, the kind unknown", DENIED,
             a_consent(), a_consent(DENY, of=1, given=at(1), kinds=DISCHARGES)),
        case("renewed for other kinds", EXPIRED,
             a_consent(end=at(7)), a_consent(of=1, given=at(6), kinds=(Kind.BOOKED,)), kind=Kind.DISCHARGED),
    ],
)  # fmt: skip
def test_kinds(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """A permit covers the kinds that it names, a denial binds these; without any, all."""
    check(consents, around, expected)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("at the first instant of its dates", FREE, scope=a_scope(needs_permit=False, begins=at(8))),
        case("within its dates", FREE, scope=a_scope(needs_permit=False, begins=at(8), ends=at(8) + 1)),
        case("before them", UNCOVERED, scope=a_scope(needs_permit=False, begins=at(8) + 1)),
        case("after them", EXPIRED, scope=a_scope(needs_permit=False, ends=at(8))),
        case("at the first instant of dates that hold none", EXPIRED,
             scope=a_scope(needs_permit=False, begins=at(8), ends=at(8))),
        case("before them, whatever is permitted", UNCOVERED, a_consent(), scope=a_scope(begins=at(8) + 1)),
        case("after them, whatever is permitted", EXPIRED, a_consent(), scope=a_scope(ends=at(8))),
        case("a denial within them", DENIED, a_consent(DENY), scope=a_scope(needs_permit=False, ends=at(9))),
    ],
)  # fmt: skip
def test_a_waiver(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """45 CFR 164.512(i): no permit is needed within its dates; outside of them the route decides nothing."""
    check(consents, around, expected)


def elsewhere(says: Says, **fields: object) -> Consent:
    """One that came by another source, in a message of its own."""
    came = a_consent(says, **{"key": "elsewhere", **fields})  # type: ignore[arg-type]
    return replace(came, consent=came.consent.replace("ehr|", "portal|"))


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("inactive", REVOKED, a_consent(), elsewhere(ENDS, given=at(7))),
        case("inactive, of an older version", REVOKED, a_consent(version=2), elsewhere(ENDS, version=1, given=at(7))),
        case("inactive from a date ahead", RELEASED, a_consent(), elsewhere(ENDS, given=at(9))),
        case("entered in error", REVOKED, a_consent(), elsewhere(VOID, given=at(20))),
        case("a denial of something else", REVOKED, a_consent(), elsewhere(DENY, given=at(20), purposes=("HMARKT",))),
        case("a permit of something else", RELEASED, a_consent(), elsewhere(PERMIT, given=at(6), purposes=("HMARKT",))),
        case("a draft", RELEASED, a_consent(), elsewhere(NOTHING, given=at(6))),
        case("inactive, its id with a bar in the source's name", REVOKED,
             a_consent(), replace(elsewhere(ENDS, given=at(7)), consent="a|b|Consent/form")),
        case("inactive under another id", RELEASED, a_consent(), elsewhere(ENDS, of="another form", given=at(7))),
        case("entered in error under another id", RELEASED, a_consent(), elsewhere(VOID, of="another form")),
    ],
)  # fmt: skip
def test_what_another_source_said(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """Under the same id an ending ends the permit, whatever its version; nothing else does."""
    check(consents, around, expected)


# --- review --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("an unclear consent", UNCLEAR, a_consent(VAGUE)),
        case("an unclear consent about this purpose and another", UNCLEAR,
             a_consent(VAGUE, of=1, purposes=("HRESCH", "PATSUPPORT")), a_consent()),
        case("an unclear consent about another purpose", RELEASED, a_consent(VAGUE, of=1, purposes=("HRESCH",)),
             a_consent()),
        case("an unclear consent after a permit", UNCLEAR, a_consent(), a_consent(VAGUE, of=1, given=at(6))),
        case("an unclear consent, then a clear permit", RELEASED, a_consent(VAGUE, of=1), a_consent(given=at(1))),
        case("an unclear consent, then a permit of the same instant", UNCLEAR, a_consent(VAGUE, of=1), a_consent()),
        case("an unclear consent of unknown date", UNCLEAR,
             a_consent(VAGUE, of=1, given=BEGINNING, said=FOREVER), a_consent()),
        case("an unclear consent, lifted for later events only", UNCLEAR,
             a_consent(VAGUE, of=1), a_consent(given=at(6))),
        case("an unclear consent, then a permit out of scope", UNCLEAR,
             a_consent(VAGUE, of=1), a_consent(given=at(1), purposes=("HMARKT",))),
        case("denied, permitted, unclear", UNCLEAR,
             a_consent(DENY, of=1), a_consent(given=at(1)), a_consent(VAGUE, of=2, given=at(2))),
        case("denied and permitted at one instant, then unclear", DENIED,
             a_consent(DENY, of=1), a_consent(), a_consent(VAGUE, of=2, given=at(1))),
        case("unclear and permitted at one instant, after a changed identity", UNCLEAR,
             a_consent(VAGUE, of=1), a_consent(), changed=at(-1)),
        case("unclear, then denied", DENIED, a_consent(VAGUE, of=1), a_consent(DENY, of=2, given=at(1))),
        case("an unclear newer version ends the older", UNCLEAR,
             a_consent(given=at(2)), a_consent(VAGUE, version=2, given=at(1))),
        case("a changed identity", CHANGED, changed=at(6)),
        case("a changed identity after the permit", CHANGED, a_consent(), changed=at(3)),
        case("a changed identity at the instant of the permit", CHANGED, a_consent(given=at(3)), changed=at(3)),
        case("a changed identity, then a permit", RELEASED, a_consent(given=at(4)), changed=at(3)),
        case("a changed identity of unknown date", CHANGED, a_consent(given=at(4)), changed=FOREVER),
        case("a changed identity, an older permit, and a newer one for something else", CHANGED,
             a_consent(), a_consent(of=1, given=at(4), purposes=("HMARKT",)), changed=at(3)),
        case("a changed identity, then a permit for something else", SCOPELESS,
             a_consent(given=at(4), purposes=("HMARKT",)), changed=at(3)),
        case("a changed identity, then a denial", DENIED, a_consent(DENY, given=at(4)), changed=at(3)),
        case("a denial of either side stands", DENIED, a_consent(DENY), changed=at(3)),
    ],
)  # fmt: skip
def test_review(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """What is not understood, or not known whose it is, goes to review until a later clear permit."""
    check(consents, around, expected)


AGGREGATES = a_scope("HMARKT", recipients=(), needs_permit=False)
COUNTED_FOR_CRM = a_scope("HMARKT", needs_permit=False)
MARKETING = a_consent(given=at(1), purposes=("HMARKT",))


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("silence", FREE),
        case("a permit for something else", FREE, a_consent()),
        case("a denial of it", DENIED, a_consent(DENY, purposes=("HMARKT",))),
        case("a denial of everything", DENIED, a_consent(DENY)),
        case("a denial of something else", FREE, a_consent(DENY, purposes=("PATSUPPORT",))),
        case("a denial to one recipient, of a route that names none", DENIED, a_consent(DENY, recipients=(CRM,))),
        case("a denial to its recipient", DENIED, a_consent(DENY, recipients=(CRM,)), scope=COUNTED_FOR_CRM),
        case("a denial to another recipient", FREE,
             a_consent(DENY, recipients=("Organization/other",)), scope=COUNTED_FOR_CRM),
        case("a denial lifted later", RELEASED, a_consent(DENY, of=1), MARKETING),
        case("a denial lifted after the event", DENIED,
             a_consent(DENY, of=1), a_consent(given=at(6), purposes=("HMARKT",))),
        case("a denial lifted by a permit that is over", DENIED,
             a_consent(DENY, of=1), a_consent(given=at(1), end=at(7), purposes=("HMARKT",))),
        case("a permit that is over, and no denial", FREE, a_consent(end=at(7), purposes=("HMARKT",))),
        case("an unclear consent", UNCLEAR, a_consent(VAGUE)),
        case("an unclear consent, then a clear permit", RELEASED, a_consent(VAGUE, of=1), MARKETING),
        case("a changed identity", CHANGED, changed=at(3)),
        case("a changed identity, then any permit", FREE, a_consent(given=at(4)), changed=at(3)),
        case("a changed identity, then any permit within the wait", FREE, a_consent(given=at(7)), changed=at(3)),
        case("a changed identity, then a permit at the end of the wait", FREE,
             a_consent(given=at(5 + WAIT)), changed=at(3), horizon=at(10)),
        case("a changed identity, then a permit beyond the wait", CHANGED,
             a_consent(given=at(5 + WAIT) + 1), changed=at(3), horizon=at(10)),
        case("a changed identity, then any permit of the same instant", CHANGED,
             a_consent(given=at(4)), changed=at(4)),
        case("a changed identity, then a post-dated permit", CHANGED, a_consent(given=at(9)), changed=at(3)),
        case("a changed identity, then any permit at the horizon", FREE, a_consent(given=at(8)), changed=at(3)),
        case("a changed identity, then a permit taken back", CHANGED,
             a_consent(given=at(4)), a_consent(VOID, version=2), changed=at(3)),
        case("a changed identity, then a permit of two contents", CHANGED,
             a_consent(given=at(4)), a_consent(given=at(4), end=at(20)), changed=at(3)),
        case("a changed identity, then a denial of something else", CHANGED,
             a_consent(DENY, given=at(4), purposes=("PATSUPPORT",)), changed=at(3)),
    ],
)  # fmt: skip
def test_aggregates_need_no_permit(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    """The bases de-identified and operations: no permit is asked for; a denial stops them all the same."""
    check(consents, {"scope": AGGREGATES, **around}, expected)


# --- of a minor ----------------------------------------------------------------------------------------------------

PARENT_S = a_consent(guardian=True)


@pytest.mark.parametrize(
    ("consent", "adult", "end"),
    [
        pytest.param(PARENT_S, at(5), at(5), id="a parent's ends at majority"),
        pytest.param(a_consent(guardian=True, end=at(4)), at(5), at(4), id="a parent's that ends before"),
        pytest.param(a_consent(guardian=True, end=at(6)), at(5), at(5), id="a parent's that would end after"),
        pytest.param(PARENT_S, at(0) + 1, at(0) + 1, id="given at the last instant before"),
        pytest.param(PARENT_S, at(0), FOREVER, id="given at majority"),
        pytest.param(PARENT_S, at(-1), FOREVER, id="given after majority"),
        pytest.param(PARENT_S, BEGINNING, FOREVER, id="nobody knows when the patient is of age"),
        pytest.param(a_consent(guardian=True, given=BEGINNING), at(5), at(5), id="nobody knows when it was given"),
        pytest.param(a_consent(), at(5), FOREVER, id="the patient's own"),
        pytest.param(a_consent(DENY, guardian=True), at(5), FOREVER, id="a parent's denial"),
        pytest.param(a_consent(VAGUE, guardian=True), at(5), FOREVER, id="a parent's, unclear"),
    ],
)
def test_what_a_parent_permitted_ends_at_majority(consent: Consent, adult: int, end: int) -> None:
    """45 CFR 164.502(g)(3): from then on the patient decides. Nothing but the end of a permit changes, nor does what
    stands beside it."""
    beside = a_consent(of="the patient's own")
    assert list(until_majority([consent, beside], adult)) == [replace(consent, end=end), beside]


VOIDED = a_consent(end=BEGINNING)


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("alone", INCOMPLETE, VOIDED),
        case("given after the horizon", UNCOVERED, replace(VOIDED, given=at(9))),
        case("beside one that has expired before", INCOMPLETE,
             replace(VOIDED, given=at(1)), a_consent(of=1, end=at(2))),
        case("beside one that has expired since", EXPIRED, VOIDED, a_consent(of=1, given=at(1), end=at(2))),
        case("beside one that holds", RELEASED, VOIDED, a_consent(of=1)),
        case("for another purpose", SCOPELESS, replace(VOIDED, purposes=("OTHER",))),
        case("it renews nothing", EXPIRED, replace(VOIDED, given=at(6)), a_consent(of=1, end=at(7))),
        case("nothing renews it", UNCOVERED, replace(VOIDED, given=at(6)), a_consent(of=1, start=at(6))),
        case("it lifts no denial", DENIED, a_consent(DENY, of=1, given=at(1)), replace(VOIDED, given=at(2))),
        case("it lifts no unclear consent", UNCLEAR, a_consent(VAGUE, of=1, given=at(1)), replace(VOIDED, given=at(2))),
        case("it says nothing of who the patient is", CHANGED, replace(VOIDED, given=at(2)), changed=at(1)),
        case("nor where no permit is needed", CHANGED,
             replace(VOIDED, given=at(2)), changed=at(1), scope=a_scope(needs_permit=False)),
        case("it replaces the version before all the same", INCOMPLETE,
             a_consent(), a_consent(end=BEGINNING, version=2, given=at(1))),
    ],
)  # fmt: skip
def test_what_the_law_does_not_let_permit_anything(
    consents: tuple[Consent, ...], around: dict[str, object], expected: Answer
) -> None:
    """A permit whose end is the BEGINNING: it states none where the law of the jurisdiction wants one."""
    check(consents, around, expected)


# --- why not -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("consents", "around", "expected"),
    [
        case("over before the event", EXPIRED, a_consent(end=at(3))),
        case("over since the event", EXPIRED, a_consent(end=at(7))),
        case("given at the horizon, and over by then", EXPIRED, a_consent(given=at(8), end=at(8))),
        case("taken back before the event", REVOKED, a_consent(), a_consent(ENDS, version=2, given=at(3))),
        case("taken back, and its period over too", EXPIRED,
             a_consent(end=at(7)), a_consent(ENDS, version=2, given=at(3))),
        case("the last of two counts", REVOKED,
             a_consent(end=at(3)), a_consent(of=1, given=at(1)), a_consent(VOID, of=1, version=2)),
        case("in force, for other times", UNCOVERED, a_consent(start=at(6))),
        case("for other times, and over at the horizon", EXPIRED, a_consent(start=at(6), end=at(8))),
    ],
)  # fmt: skip
def test_why_not(consents: tuple[Consent, ...], around: dict[str, object], expected: Answer) -> None:
    check(consents, around, expected)


ONE, LATER, OVER = a_consent(), a_consent(given=at(1)), a_consent(end=at(3))
ELSE, NO, DIM, DRAFT = (
    a_consent(purposes=("HMARKT",)),
    a_consent(DENY, of=1),
    a_consent(VAGUE, of=2),
    a_consent(NOTHING),
)
AFTER, TWIN = a_consent(given=at(6)), a_consent(end=at(20))
ALSO_NO = replace(NO, rule=1, purposes=("PATSUPPORT",))  # another rule of the same version


@pytest.mark.parametrize(
    ("consents", "rests_on"),
    [
        pytest.param([LATER], [LATER], id="the permit that grounds it"),
        pytest.param([NO, LATER], [LATER], id="the permit that grounds it, after a denial"),
        pytest.param([NO], [NO], id="a denial"),
        pytest.param([NO, ALSO_NO], [ALSO_NO], id="two rules of one version: it is named once"),
        pytest.param([NO, AFTER], [NO], id="a denial that is lifted for later events"),
        pytest.param([DIM], [DIM], id="an unclear consent"),
        pytest.param([DIM, AFTER], [DIM], id="an unclear consent that is lifted for later events"),
        pytest.param([ONE, TWIN], [ONE, TWIN], id="two copies that differ"),
        pytest.param([replace(ONE, start=at(6))], [replace(ONE, start=at(6))], id="a permit that does not cover it"),
        pytest.param([OVER], [OVER], id="a permit that is over"),
        pytest.param([ELSE, DRAFT], [ELSE], id="a permit for something else"),
    ],
)
def test_the_answer_names_the_consents_that_it_rests_on(consents: list[Consent], rests_on: list[Consent]) -> None:
    scope = a_scope()
    facts = decide(at(5), 0, standing(consents, BEGINNING, scope, at(8)), scope, at(8))[2]
    assert sorted(facts, key=lambda fact: fact.what) == sorted(rests_on, key=lambda fact: fact.what)


# --- of every set of consents --------------------------------------------------------------------------------------

EXAMPLES = settings(max_examples=int(os.environ.get("LIMEN_EXAMPLES", "150")), deadline=None)
HOURS = st.integers(0, 12).map(at)
PURPOSES = st.sampled_from([("PATSUPPORT",), ("PATSUPPORT",), ("PATSUPPORT",), ("HMARKT",), ()])
RECIPIENTS = st.sampled_from([(CRM,), (CRM,), (CRM,), ("Organization/other",), ()])
SAYS = st.sampled_from([PERMIT] * 6 + [DENY, ENDS, VOID, VAGUE, NOTHING])
SCOPES = st.sampled_from([a_scope(), a_scope(), AGGREGATES])


@st.composite
def consents_of(draw: st.DrawFn, says: st.SearchStrategy[Says] = SAYS) -> Consent:
    given = draw(HOURS)
    return a_consent(
        draw(says),
        of=draw(st.integers(0, 3)),
        version=draw(st.integers(0, 3)) or (-1, at(2), ""),
        given=given,
        said=given + draw(st.sampled_from([0, 0, 3 * HOUR])),
        start=draw(st.sampled_from([BEGINNING, BEGINNING, given, at(6)])),
        end=draw(st.sampled_from([FOREVER, FOREVER, at(7), at(9)])),
        purposes=draw(PURPOSES),
        recipients=draw(RECIPIENTS),
    )


SEVERAL = st.lists(consents_of(), max_size=5)
INSTANTS = st.integers(4, 12).map(at)
CHANGES = st.sampled_from([BEGINNING, BEGINNING, BEGINNING, at(3), at(6)])


@EXAMPLES
@given(SEVERAL, consents_of(st.just(DENY)), INSTANTS, INSTANTS, CHANGES, SCOPES)
def test_a_denial_never_adds_a_release(
    consents: list[Consent], denial: Consent, time: int, horizon: int, changed: int, scope: Scope
) -> None:
    before = answer(*consents, time=time, horizon=horizon, changed=changed, scope=scope)
    after = answer(*consents, denial, time=time, horizon=horizon, changed=changed, scope=scope)
    assert before[0] is Verdict.RELEASED or after[0] is not Verdict.RELEASED


@EXAMPLES
@given(st.data(), SEVERAL, INSTANTS, INSTANTS, CHANGES, SCOPES)
def test_the_order_of_consents_changes_nothing(
    data: st.DataObject, consents: list[Consent], time: int, horizon: int, changed: int, scope: Scope
) -> None:
    other = data.draw(st.permutations(consents))
    assert answer(*consents, time=time, horizon=horizon, changed=changed, scope=scope) == answer(
        *other, time=time, horizon=horizon, changed=changed, scope=scope
    )


@EXAMPLES
@given(SEVERAL, INSTANTS, INSTANTS, CHANGES)
def test_every_release_has_a_permit_that_names_it_and_holds(
    consents: list[Consent], time: int, horizon: int, changed: int
) -> None:
    """An oracle written apart from the rule: in force, given by now, naming both, after every denial."""
    horizon = max(horizon, time)  # one that is dated after the horizon is never decided
    if answer(*consents, time=time, horizon=horizon, changed=changed)[0] is not Verdict.RELEASED:
        return
    scope = a_scope()
    refused = [c for c in consents if c.says is DENY and {"PATSUPPORT"} & set(c.purposes or ("PATSUPPORT",))]
    refused = [c for c in refused if {CRM} & set(c.recipients or (CRM,))]
    good = [
        c
        for c in consents
        if c.says is PERMIT and "PATSUPPORT" in c.purposes and CRM in c.recipients and changed < c.given <= horizon
        if all(max(no.said, no.start) < c.given for no in refused)
    ]
    assert any(c.start <= time < c.end and c.given <= time + scope.wait for c in good)
    assert any(c.start <= horizon < c.end for c in good)


@EXAMPLES
@given(SEVERAL, INSTANTS, INSTANTS)
def test_nothing_is_released_once_all_permits_have_ended(consents: list[Consent], time: int, horizon: int) -> None:
    last = max((c.end for c in consents if c.says is PERMIT), default=BEGINNING)
    if last <= horizon:
        assert answer(*consents, time=time, horizon=horizon)[0] is not Verdict.RELEASED
