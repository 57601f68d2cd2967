"""Builders of facts, scopes and rules for tests: spell only the field that matters.

Times are hours on a test clock: `at(5)` is five hours after its zero. The wait of the test routes is four hours.
"""

from collections.abc import Mapping

from schemas.event import Consent, Identity, Judgement, Kind, Mark, Milestone, Person, Says, content_of, digest
from schemas.instant import BEGINNING, DAY, FOREVER, HOUR, from_fhir
from schemas.outcome import Reason
from transforms.rules.consent import Scope
from transforms.rules.filters import Filters
from transforms.rules.routing import RouteRule, Rules
from transforms.rules.sensitivity import mark

PATIENT = "urn:id:MRN\x1f1"
CRM = "Organization/crm"
WAIT, TIME_TO_LIVE, ANSWER_IN = 4, 10, 6  # hours
ZERO = 20_000 * DAY
UNFILTERED = {
    "routes": {"__all__": {"filters"}}
}  # what a dump of a policy without filters leaves out, as its YAML does


def at(hours: float) -> int:
    """That many hours on the test clock, in microseconds since 1970."""
    return ZERO + round(hours * HOUR)


def micros(text: str) -> int:
    """An instant as FHIR writes it, in microseconds since 1970."""
    found = from_fhir(text)
    assert found is not None
    return found.time


def a_milestone(
    time: int | None = at(5),
    *,
    key: object = None,
    visit: str = "v1",
    kind: Kind = Kind.ADMITTED,
    cancels: tuple[Kind, ...] = (),
    service_class: str = "inpatient",
    values: dict[str, str] | None = None,
    span: int = 0,
    published: int | None = None,
    what: bytes | None = None,
    course: str = "",
    since: int | None = None,
    classes: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
) -> Milestone:
    """An admission. Equal values are one milestone; each content has a message of its own unless `key` says so."""
    values = {"service_class": service_class} if values is None else values
    content = content_of(PATIENT, kind, visit, time, span, values, cancels, course, since) if what is None else what
    name = digest("message", content if key is None else str(key))
    return Milestone(
        name, PATIENT, "ADT", content, kind, visit, time, span, values, cancels, published, classes, course, since, also
    )


def a_cancellation(time: int | None = at(5), **fields: object) -> Milestone:
    """An A11: it takes back the admission and the registration of its visit, up to its time."""
    return a_milestone(time, cancels=(Kind.ADMITTED, Kind.REGISTERED), **fields)  # type: ignore[arg-type]


def a_consent(
    says: Says = Says.PERMIT,
    *,
    of: object = "form",
    version: int | tuple[int, int, str] = 1,
    key: object = None,
    given: int = at(0),
    said: int | None = None,
    start: int = BEGINNING,
    end: int = FOREVER,
    data_start: int = BEGINNING,
    data_end: int = FOREVER,
    scope: str = "patient-privacy",
    purposes: tuple[str, ...] | None = None,
    actions: tuple[str, ...] | None = None,
    recipients: tuple[str, ...] | None = None,
    rule: int = 0,
    kinds: tuple[Kind, ...] | None = None,
    counted: bool = True,
    guardian: bool = False,
    classes: tuple[str, ...] | None = None,
) -> Consent:
    """A permit of PATSUPPORT that lets the CRM have everything for ever; any other kind speaks of everything."""
    permit = says is Says.PERMIT
    purposes = (("PATSUPPORT",) if permit else ()) if purposes is None else purposes
    actions = (("disclose",) if permit else ()) if actions is None else actions
    recipients = ((CRM,) if permit else ()) if recipients is None else recipients
    said = given if said is None else said
    ordered = (version, 0, "") if isinstance(version, int) else version
    what = digest(
        str(of), *ordered, says, given, said, start, end, data_start, data_end, scope, purposes, actions, recipients,
        *(kinds or ()), *(classes or ()),
    )[:16]  # fmt: skip
    name = digest("consent", str(of), *ordered) if key is None else digest("consent message", str(key))
    return Consent(
        name, PATIENT, "Consent", what, f"ehr|Consent/{of}", ordered, says, given, said, start, end,
        data_start, data_end, scope, purposes, actions, recipients, rule, kinds, counted, guardian, classes,
    )  # fmt: skip


def a_change(time: int = at(6), *, key: object = "merge", counted: bool = True) -> Identity:
    """The patient's identity was merged."""
    return Identity(digest("change", str(key)), PATIENT, "ADT", time, counted)


def a_person(adult_at: int = BEGINNING, *, died: bool = False, key: object = "patient") -> Person:
    """Demographics of a patient who comes of age at that instant."""
    return Person(digest("person", str(key)), PATIENT, "Patient", adult_at, died, True)


def a_mark(*visits: str, classes: tuple[str, ...] = ("hiv",)) -> Mark:
    """Something says of these numbers of a visit, or of the patient, that it is specially protected."""
    return mark(PATIENT, visits, classes)


def a_judgement(what: bytes, route: str, question: str, *, allows: bool = True, said: int = at(0)) -> Judgement:
    """What a reviewer said of a milestone on a route."""
    name = digest("judgement", what, route, question, str(allows), said)
    return Judgement(name, PATIENT, "limen.review.verdict.v1", what, route, question, allows, said)


def a_scope(
    purpose: str = "PATSUPPORT",
    *,
    broader: tuple[str, ...] = (),
    recipients: tuple[str, ...] = (CRM, "urn:limen:organization|crm"),
    wait: int = WAIT * HOUR,
    needs_permit: bool = True,
    begins: int = BEGINNING,
    ends: int = FOREVER,
) -> Scope:
    """What a CRM route asks of consent."""
    named = frozenset(recipients)
    stops, scopes = frozenset({purpose, *broader}), frozenset({"patient-privacy"})
    return Scope(purpose, stops, named, scopes, wait, needs_permit, begins, ends)


def a_route(
    name: str = "state",
    *,
    scope: Scope | None = None,
    by_patient: bool = True,
    enabled: bool = True,
    shadow: bool = False,
    filters: Filters | None = None,
) -> RouteRule:
    """A route with one record per patient."""
    scope = a_scope() if scope is None else scope
    return RouteRule(name, scope, by_patient, enabled, shadow, filters=filters)


def the_rules(
    *routes: RouteRule,
    keeps: bool = False,
    time_to_live: int = TIME_TO_LIVE * HOUR,
    kinds: Mapping[Kind, tuple[RouteRule, ...]] | None = None,
) -> Rules:
    """Every kind is taken by all of these routes, by one state route if none is given."""
    taken = routes or (a_route(),)
    by_kind = dict.fromkeys(Kind, taken) if kinds is None else kinds
    named = {route.name: route for rules in by_kind.values() for route in rules}
    by_programme = any(route.filters is not None and route.filters.programmes for route in named.values())
    answer_in = dict.fromkeys(Reason, ANSWER_IN * HOUR)
    return Rules(by_kind, named, time_to_live, keeps, answer_in=answer_in, by_programme=by_programme)
