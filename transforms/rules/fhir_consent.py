"""FHIR R4 Consent to consent facts, one for each of its rules; whatever is not fully understood is `unclear`.

    Consent.status          active counts; inactive ends; entered-in-error voids; rejected denies; others: nothing
    Consent.scope           adr, research, patient-privacy, treatment
    Consent.dateTime        when the patient said it
    Consent.category,       the form, where the policy's consent-forms.yaml knows it
      .policyRule           OPTOUT and its like beside a permit contradict it
    Consent.source[x]       its form, as category; a permit needs it where the profile says so: `fhir_consent_source`
    Consent.verification    a permit needs it where the source's profile says so
    Consent.provision       the rules: `fhir_provision`

A version that is not understood, or that holds what FHIR R4 does not have (`fhir_consent_elements`), is unclear; what
it denies or ends without a doubt is denied or ended all the same.
Rule source: FHIR R4 Consent; DESIGN section 3, Consent.
"""

from collections.abc import Iterable, Mapping

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from schemas.errors import MessageError
from schemas.event import Consent, Says, digest
from schemas.instant import BEGINNING, FOREVER, from_fhir, interval_from_fhir
from schemas.outcome import Reason
from transforms.rules import fhir_provision
from transforms.rules.consent_forms import form_of
from transforms.rules.consent_versions import ENDINGS
from transforms.rules.fhir import containing, further, key_of, patient_of, same_patient
from transforms.rules.fhir_consent_elements import understood
from transforms.rules.fhir_consent_source import Source, source
from transforms.rules.fhir_criteria import Provision
from transforms.rules.fhir_parts import Around, Coding, Concept, Meta, Part, Reference
from transforms.rules.fhir_provision import Reader, Rule

SCOPES = "http://terminology.hl7.org/CodeSystem/consentscope"
KNOWN_SCOPES = frozenset({"adr", "research", "patient-privacy", "treatment"})
# policies and categories that contradict a permit: v3-ActCode, consentcategorycodes
CONTRARY = frozenset({"OPTOUT", "OPTOUTE", "NOCONSENT", "EMRGONLY", "emrgonly"})
TIGHTENS = ENDINGS | {Says.UNCLEAR}  # told to a patient by every name; a permit is never joined to another name
CARE = frozenset({"treatment", "adr"})  # scopes that say nothing of disclosure
RESTRICTING = frozenset({"hipaa-restrictions", "hipaa-self-pay"})  # consentpolicycodes, as 45 CFR 164.522(a) has them
BROKEN = "?"  # stands for the status of a Consent that could not be read
STATUSES = {
    "active": None,  # the provision says what it means
    "inactive": Says.ENDS,
    "entered-in-error": Says.VOID,
    "rejected": Says.DENY,
    "draft": Says.NOTHING,
    "proposed": Says.NOTHING,
}


class Verification(Part, frozen=True, gc=False):
    verified: bool | None = None


class ConsentResource(Part, frozen=True, gc=False):
    id: str | None = None
    meta: Meta | None = None
    implicitRules: str | None = None
    modifierExtension: object = UNSET
    contained: list[dict[str, object]] | None = None
    status: str | None = None
    scope: Concept | None = None
    category: list[Concept] | None = None
    patient: Reference | None = None
    dateTime: str | None = None
    performer: list[Reference] | None = None
    policyRule: Concept | None = None
    verification: list[Verification] | None = None
    provision: Provision | None = None


class Legible(Part, frozen=True, gc=False):
    """What must be readable of a Consent that is not, for its patient to be protected all the same."""

    id: object = None
    meta: object = None
    contained: object = None
    patient: Reference | None = None


def consent(tree: Mapping[str, object], around: Around, purposes: Mapping[str, object]) -> list[Consent]:
    """The facts that one Consent resource states, a rule each, permits first; the first of them is counted. What it
    withholds is told again to the patient's further names, where what lies around gives any (`fhir.further`).

    `tree` is the resource as parsed, `purposes` holds the known codes. Raises MessageError.
    """
    resource = _resource(tree)
    if resource.contained:
        around = containing(resource.contained, around)
    patient = patient_of(resource.patient, around)
    if not patient:
        raise MessageError(Reason.CONSENT_OF_NOBODY)

    local, meta = around.reading.zone, resource.meta or Meta()
    dated = interval_from_fhir(resource.dateTime, local)
    scope = _scope(resource)
    rules = _rules(
        resource,
        source(tree, resource.patient, patient, around),
        Reader(around, purposes, dated.time if dated else BEGINNING),
    )
    says = rules[0].says
    unscoped = scope is None and says in (Says.PERMIT, Says.DENY)
    if unscoped or not understood(tree):
        rules = _unclear(rules)
    elif dated is None and says is Says.PERMIT:
        rules = _undated(rules)
    if dated is None:  # a server's touch can date a restriction, never a permit
        dated = from_fhir(meta.lastUpdated, local)
    # Of unknown date, a restriction has always been said, and no permit is known to come after it.
    given, said = (dated.time, dated.time + max(dated.span - 1, 0)) if dated else (BEGINNING, FOREVER)

    version = _version(meta, around)
    parts = [part for rule in rules for part in rule]
    guardian = any(not same_patient(one, resource.patient, patient, around) for one in resource.performer or ())
    stated = (resource.id, *version, given, said, scope, guardian, *parts)
    what = digest(patient, *stated)[:16]
    name = f"{around.feed}|Consent/{resource.id}" if resource.id else f"{around.feed}|{what.hex()}"
    key = key_of("Consent", resource.id, resource.meta, around, patient, what)
    facts = [
        Consent(
            key, patient, "Consent", what, name, version, rule.says, given, said, rule.start, rule.end,
            rule.data_start, rule.data_end, scope or "", rule.purposes, rule.actions, rule.recipients,
            place, rule.kinds, place == 0, guardian, rule.classes,
        )
        for place, rule in enumerate(rules)
    ]  # fmt: skip
    withholds = [one for one in facts if one.says in TIGHTENS]
    for other in further(resource.patient, patient, around):
        what = digest(other, *stated)[:16]
        facts += [replace(one, patient=other, what=what, counted=False) for one in withholds]
    return facts


def _resource(tree: Mapping[str, object]) -> ConsentResource:
    """The parts of a Consent. One that is broken but names its patient may be a revocation: it is kept, as unclear."""
    try:
        return msgspec.convert(tree, ConsentResource)
    except msgspec.ValidationError:
        pass
    try:
        broken = msgspec.convert(tree, Legible)
    except msgspec.ValidationError:
        raise MessageError(Reason.CONSENT_OF_NOBODY) from None
    try:
        meta = msgspec.convert(broken.meta, Meta | None)
    except msgspec.ValidationError:  # a version that no other can be compared with
        meta = None
    name = broken.id if isinstance(broken.id, str) else None
    contained = [one for one in broken.contained if isinstance(one, dict)] if isinstance(broken.contained, list) else []
    return ConsentResource(id=name, meta=meta, contained=contained, patient=broken.patient, status=BROKEN)


def _rules(resource: ConsentResource, signed: Source, reader: Reader) -> list[Rule]:
    """What the version says, rule by rule; `signed` is its source document."""
    root, profile = resource.provision or Provision(), reader.around.reading.consents
    own = [coding for one in (resource.policyRule, *(resource.category or ())) if one for coding in one.coding or ()]
    codings = [*own, *signed.codings] if signed.codings else own
    codes = _codes(codings)
    form = form_of(codes, profile)
    if not signed.sound and form_of(_codes(own), profile) is None:  # such a document does not narrow a denial either
        form = None
    if resource.status not in STATUSES:
        return [fhir_provision.UNCLEAR]
    by_status = STATUSES[resource.status]
    if by_status is Says.DENY:
        rules = fhir_provision.refused(root, form, reader)
    elif by_status is not None:
        rules = [Rule(by_status)]
    elif (
        resource.provision is None and signed.sound and codes.isdisjoint(profile.forms) and _of_care(resource, codings)
    ):
        rules = [Rule(Says.NOTHING)]
    else:
        rules = fhir_provision.rules(root, form, reader)
    if resource.modifierExtension is not UNSET or resource.implicitRules is not None:
        return [fhir_provision.UNCLEAR]
    if rules[0].says is Says.PERMIT:
        two_forms = form is None and not codes.isdisjoint(profile.forms)
        if two_forms or not signed.sound or CONTRARY & {coding.code for coding in codings}:
            return _unclear(rules)
        checks = [one.verified is True for one in resource.verification or ()]
        if (profile.verified and not (checks and all(checks))) or (profile.documented and not signed.stated):
            return [Rule(Says.NOTHING), *_restrictions(rules)]
    return rules


def _unclear(rules: list[Rule]) -> list[Rule]:
    """What remains of rules that contradict themselves or are not understood: what they deny or end."""
    return [fhir_provision.UNCLEAR, *_restrictions(rules)]


def _undated(rules: list[Rule]) -> list[Rule]:
    """Of permits that are understood but for their date: unclear, though about no purpose that none of them names."""
    named = [rule.purposes for rule in rules if rule.says is Says.PERMIT]
    purposes = sorted({purpose for its in named for purpose in its}) if all(named) else []
    return [fhir_provision.UNCLEAR._replace(purposes=tuple(purposes)), *_restrictions(rules)]


def _restrictions(rules: list[Rule]) -> list[Rule]:
    return [rule for rule in rules if rule.says in ENDINGS]


def _scope(resource: ConsentResource) -> str | None:
    """Consent.scope, "" where there is none; None where it is not understood."""
    if resource.scope is None:
        return ""
    scopes = {coding.code for coding in resource.scope.coding or () if coding.system == SCOPES}
    scope = scopes.pop() if len(scopes) == 1 else None
    return scope if scope in KNOWN_SCOPES else None


def _of_care(resource: ConsentResource, codings: list[Coding]) -> bool:
    """Is a Consent without a provision for care alone, such as the one to treatment at every admission? Not if any of
    its codes may speak of information, or a category or policy is in words."""
    stated = [one for one in (resource.policyRule, *(resource.category or ())) if one is not None]
    return (
        _scope(resource) in CARE
        and all(one.coding for one in stated)
        and all(one.code == "OPTIN" or "ActCode" not in (one.system or "ActCode") for one in codings)
        and {one.code for one in codings}.isdisjoint(CONTRARY | RESTRICTING)
    )


def _codes(codings: Iterable[Coding]) -> set[str]:
    """Codes as the policy writes them: system|code."""
    return {f"{one.system}|{one.code}" for one in codings if one.system and one.code}


def _version(meta: Meta, around: Around) -> tuple[int, int, str]:
    """Orders the versions of one Consent: a numeric versionId first, else by lastUpdated."""
    updated = from_fhir(meta.lastUpdated, around.reading.zone)
    number = meta.versionId or ""
    if number.isascii() and number.isdigit() and len(number) < 19:
        return int(number), 0, ""
    return -1, updated.time if updated else BEGINNING, number if updated is None else ""
