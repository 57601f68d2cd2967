"""FHIR R4 Consent to one consent fact: its root provision, flattened; whatever is not fully understood is `unclear`.

    Consent.status          active counts; inactive ends; entered-in-error voids; rejected denies; others: nothing
    Consent.scope           adr, research, patient-privacy, treatment
    Consent.dateTime        when the patient said it
    Consent.policyRule      OPTOUT beside a permit contradicts it
    Consent.provision       type, period, dataPeriod, purpose, action, actor (role and organisation)

Under the profile `root-is-rule` the root provision is the rule itself. Nested provisions and the criteria class, code,
securityLabel and data narrow a rule in ways that these rules do not weigh yet: unclear, hence review.
Rule source: FHIR R4 Consent; DESIGN section 3, Consent.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import msgspec

from schemas.errors import MessageError
from schemas.event import ALSO, Consent, Says, digest
from schemas.instant import BEGINNING, FOREVER, from_fhir
from schemas.outcome import Reason
from transforms.rules.fhir import Around, containing, patient_of, split_reference
from transforms.rules.fhir_parts import ABSENT, Coding, Concept, Meta, Part, Period, Reference
from transforms.rules.identity import idempotency_key

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
ACTIONS = "http://terminology.hl7.org/CodeSystem/consentaction"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
PURPOSE_SYSTEMS = ("http://terminology.hl7.org/CodeSystem/v3-ActReason", "urn:limen:purpose")
KNOWN_SCOPES = frozenset({"adr", "research", "patient-privacy", "treatment"})
KNOWN_ACTIONS = frozenset({"collect", "access", "use", "disclose", "correct"})
RECIPIENT_ROLE = "PRCP"  # 45 CFR 164.508(c)(1)(iii): the person to whom the disclosure may be made
KNOWN_ROLES = frozenset(
    {"PRCP", "IRCP", "CST", "AUT", "AUTHEN", "ENT", "INF", "TRC", "VRF", "DPOWATT", "GRANTEE", "GRANTOR"}
)
LITERAL = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.\-]{1,64}")  # FHIR R4 2.3, Type/id of a literal reference
BROKEN = "?"  # stands for the status of a Consent that could not be read
STATUSES = {
    "active": None,  # the provision says what it means
    "inactive": Says.ENDS,
    "entered-in-error": Says.VOID,
    "rejected": Says.DENY,
    "draft": Says.NOTHING,
    "proposed": Says.NOTHING,
}


class Backbone(Part, frozen=True, gc=False):
    """An element of which only a modifier matters here."""

    modifierExtension: msgspec.Raw = ABSENT


class Actor(Part, frozen=True, gc=False):
    role: Concept | None = None
    reference: Reference | None = None
    modifierExtension: msgspec.Raw = ABSENT


class Provision(Part, frozen=True, gc=False):
    type: str | None = None
    period: Period | None = None
    actor: list[Actor] | None = None
    action: list[Concept] | None = None
    securityLabel: msgspec.Raw = ABSENT
    purpose: list[Coding] | None = None
    class_: msgspec.Raw = msgspec.field(default=ABSENT, name="class")
    code: msgspec.Raw = ABSENT
    dataPeriod: Period | None = None
    data: msgspec.Raw = ABSENT
    provision: msgspec.Raw = ABSENT
    modifierExtension: msgspec.Raw = ABSENT


class ConsentResource(Part, frozen=True, gc=False):
    id: str | None = None
    meta: Meta | None = None
    implicitRules: str | None = None
    modifierExtension: msgspec.Raw = ABSENT
    contained: list[dict[str, object]] | None = None
    status: str | None = None
    scope: Concept | None = None
    patient: Reference | None = None
    dateTime: str | None = None
    policy: list[Backbone] | None = None
    policyRule: Concept | None = None
    verification: list[Backbone] | None = None
    provision: Provision | None = None


class Legible(Part, frozen=True, gc=False):
    """What must be readable of a Consent that is not, for its patient to be protected all the same."""

    id: object = None
    meta: object = None
    patient: Reference | None = None


class Window(NamedTuple):
    """A half-open period in microseconds UTC."""

    start: int
    end: int


_consent = msgspec.json.Decoder(ConsentResource)
_legible = msgspec.json.Decoder(Legible)


def consent(body: bytes | msgspec.Raw, around: Around, purposes: Mapping[str, object]) -> Consent:
    """The fact that one Consent resource states. `purposes` holds the known codes. Raises MessageError."""
    resource = _resource(body)
    if resource.contained:
        around = containing(resource.contained, around)
    patient = patient_of(resource.patient, around)
    if not patient:
        raise MessageError(Reason.NO_PATIENT)

    local, meta = around.reading.zone, resource.meta or Meta()
    rule = resource.provision or Provision()
    dated = from_fhir(resource.dateTime, local)
    period, data = _window(rule.period, around), _window(rule.dataPeriod, around)
    criteria = _criteria(resource, rule, purposes)
    says = _says(resource, rule)
    if says in (Says.PERMIT, Says.DENY) and (criteria is None or period is None or data is None):
        says = Says.UNCLEAR
    if says is Says.PERMIT and dated is None:
        says = Says.UNCLEAR
    if dated is None:  # a server's touch can date a restriction, never a permit
        dated = from_fhir(meta.lastUpdated, local)
    scope, named, actions, recipients = criteria or ("", (), (), ())
    start, end = period or Window(BEGINNING, FOREVER)
    # Of unknown date, a restriction has always been said, and no permit is known to come after it.
    said = (dated.time, dated.time + max(dated.span - 1, 0)) if dated else (BEGINNING, FOREVER)

    version = _version(meta, around)
    what = digest(
        patient, resource.id, *version, says, *said, start, end, *(data or ()), scope, named, actions, recipients
    )[:16]
    source = around.source or around.reading.source
    name = f"{source}|Consent/{resource.id}" if resource.id else f"{source}|{what.hex()}"
    if around.native:
        key = idempotency_key(source, around.envelope, patient, around.native, "", what)
    else:
        native = f"Consent/{resource.id}" if resource.id else ""
        key = idempotency_key(
            source, "Consent", patient, native, meta.versionId or meta.lastUpdated or what.hex(), what
        )
    return Consent(
        key, patient, "Consent", what, name, version, says, *said, start, end,
        *(data or Window(BEGINNING, FOREVER)), scope, named, actions, recipients,
    )  # fmt: skip


def _resource(body: bytes | msgspec.Raw) -> ConsentResource:
    """The parts of a Consent. One that is broken but names its patient may be a revocation: it is kept, as unclear."""
    try:
        return _consent.decode(body)
    except RecursionError:
        raise MessageError(Reason.TOO_DEEP) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        broken = _legible.decode(body)
        meta = msgspec.convert(broken.meta, Meta | None)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MessageError(Reason.MALFORMED) from None
    name = broken.id if isinstance(broken.id, str) else None
    return ConsentResource(id=name, meta=meta, patient=broken.patient, status=BROKEN)


def _says(resource: ConsentResource, rule: Provision) -> Says:
    """What the version means before its criteria are read."""
    parts = (resource, *(resource.policy or ()), *(resource.verification or ()))
    if any(part.modifierExtension for part in parts) or resource.implicitRules is not None:
        return Says.UNCLEAR
    if resource.status not in STATUSES:
        return Says.UNCLEAR
    by_status = STATUSES[resource.status]
    if by_status is not None:
        return by_status
    if rule.type == "deny" and not rule.provision:
        return Says.DENY
    if rule.type == "permit" and not rule.provision and "OPTOUT" not in _codes(resource.policyRule):
        return Says.PERMIT
    return Says.UNCLEAR


def _criteria(
    resource: ConsentResource, rule: Provision, purposes: Mapping[str, object]
) -> tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]] | None:
    """(scope, purposes, actions, recipients), each sorted; None as soon as one criterion is not understood."""
    if any((rule.class_, rule.code, rule.securityLabel, rule.data, rule.modifierExtension)):
        return None
    scopes = {c.code for c in (resource.scope.coding or ()) if c.system == SCOPES} if resource.scope else {""}
    named = {c.code if c.system in PURPOSE_SYSTEMS and c.code in purposes else None for c in rule.purpose or ()}
    actions: set[str | None] = set()
    for concept in rule.action or ():
        known = {c.code for c in concept.coding or () if c.system == ACTIONS and c.code in KNOWN_ACTIONS}
        actions |= known or {None}
    recipients: set[str] = set()
    for actor in rule.actor or ():
        roles = {c.code for c in (actor.role.coding or ()) if c.system == ROLES} if actor.role else set()
        who = _organisation(actor.reference)
        if not roles or not roles <= KNOWN_ROLES or not who or actor.modifierExtension:
            return None
        mark = "" if RECIPIENT_ROLE in roles else "?"  # named in another role: never a recipient of a permit
        recipients.add(mark + ALSO.join(sorted(who)))
    scope = scopes.pop() if len(scopes) == 1 else None
    if scope is None or (scope and scope not in KNOWN_SCOPES) or None in named or None in actions:
        return None
    return scope, _sorted(named), _sorted(actions), _sorted(recipients)


def _sorted(found: set[str | None] | set[str]) -> tuple[str, ...]:
    return tuple(sorted(one for one in found if one is not None))


def _organisation(reference: Reference | None) -> set[str]:
    """How an actor is named: its identifier as system|value, its reference as Type/id with the base if absolute.

    Empty where the name stands for something that is not read here (#contained, urn:uuid, a conditional reference).
    """
    if reference is None:
        return set()
    named = set()
    if reference.identifier is not None and reference.identifier.system and reference.identifier.value:
        named.add(f"{reference.identifier.system}|{reference.identifier.value}")
    base, local = split_reference(reference.reference or "")
    if LITERAL.fullmatch(local):
        named.add(f"{base}/{local}" if base else local)
    return named


def _codes(concept: Concept | None) -> set[str | None]:
    return {coding.code for coding in concept.coding or ()} if concept else set()


def _window(period: Period | None, around: Around) -> Window | None:
    """A period with whole-day borders where dates are given (a permit holds all its last day); None if unreadable."""
    start, end = BEGINNING, FOREVER
    if period is not None and period.start is not None:
        if (first := from_fhir(period.start, around.reading.zone)) is None:
            return None
        start = first.time
    if period is not None and period.end is not None:
        if (last := from_fhir(period.end, around.reading.zone)) is None:
            return None
        end = last.time + max(last.span, 1)  # FHIR Period.end is inclusive
    return Window(start, end)


def _version(meta: Meta, around: Around) -> tuple[int, int, str]:
    """Orders the versions of one Consent: a numeric versionId first, else by lastUpdated."""
    updated = from_fhir(meta.lastUpdated, around.reading.zone)
    number = meta.versionId or ""
    if number.isascii() and number.isdigit() and len(number) < 19:
        return int(number), 0, ""
    return -1, updated.time if updated else BEGINNING, number if updated is None else ""
