"""The criteria of one FHIR R4 provision: its elements, and what each comes to.

    purpose              the codes of codes/purposes.yaml, each under its own system
    action               consentaction
    actor                who, by reference, identifier or class, in the role of the recipient or in another
    class                resource types: the milestones that such resources state
    code                 a form of the policy: what it stands for
    securityLabel        the policy's classes of specially protected information: a permit or a denial of these
    any other code or    narrow a rule to what no milestone can be shown to be: a permit covers nothing, a denial binds
      label, data        all

Rule source: FHIR R4 Consent.provision; DESIGN section 3, Consent.
"""

import re
from collections.abc import Mapping
from typing import TypeVar

from msgspec import UNSET, UnsetType, field

from schemas.event import ALSO, Kind
from schemas.policy import RESTRICTED
from transforms.rules.consent_forms import Form
from transforms.rules.fhir_parts import Around, Coding, Concept, Part, Period, Reference, split_reference
from transforms.rules.sensitivity import CONFIDENTIALITY, RESTRICTED_LABEL, Classes, Sensitivity
from transforms.rules.vocabulary import RESOURCE_TYPES

ACTIONS = "http://terminology.hl7.org/CodeSystem/consentaction"
ROLES = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
RESOURCES = "http://hl7.org/fhir/resource-types"
ACT_REASON = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
OWN_PURPOSES = "urn:limen:purpose"  # of the codes of a policy that v3-ActReason lacks
PURPOSES_OF_USE = frozenset(  # FHIR R4 value set v3-PurposeOfUse: codes that are nobody else's
    """BIORCH BTG CAREMGT CLINTRCH CLINTRCHNPC CLINTRCHPC CLINTRL CLMATTCH COC COVAUTH COVERAGE DISASTER DONAT DSRCH
    ELIGDTRM ELIGVER ENROLLM ERTREAT ETREAT FAMRQT FRAUD GOV HACCRED HCOMPL HDECD HDIRECT HDM HLEGAL HMARKT HOPERAT
    HOUTCOMS HPAYMT HPRGRP HQUALIMP HRESCH HSYSADMIN HTEST LABELING MEMADMIN METAMGT MILCDM MILDCRG PATADMIN PATRQT
    PATSFTY PERFMSR POARCH POPHLTH PRECLINTRCH PUBHLTH PWATRNY RECORDMGT REMITADV SUPNWK SYSDEV THREAT TRAIN TRANSRCH
    TREAT""".split()
)
UNMARKED = ("",)  # stands for what is in no class, within a document
NORMAL = frozenset((CONFIDENTIALITY, code) for code in "NLMU")  # normal, low, moderate, unrestricted
KNOWN_ACTIONS = frozenset({"collect", "access", "use", "disclose", "correct"})
OWN_ORGANISATIONS = "urn:limen:organization|"  # begins the identifiers that a policy gives its destinations
RECIPIENT_ROLE = "PRCP"  # 45 CFR 164.508(c)(1)(iii): the person to whom the disclosure may be made
KNOWN_ROLES = frozenset(
    {"PRCP", "IRCP", "CST", "AUT", "AUTHEN", "ENT", "INF", "TRC", "VRF", "DPOWATT", "GRANTEE", "GRANTOR"}
)
LITERAL = re.compile(r"[A-Z][A-Za-z]+/[A-Za-z0-9.\-]{1,64}")  # FHIR R4 2.3, Type/id of a literal reference
CLASSES = ("Group/", "CareTeam/")  # who belongs to such an actor is not known here
Word = TypeVar("Word", bound=str)
RESOURCES_OF = {  # the types of resources that may state a milestone
    Kind.ADMITTED: {"Encounter"},
    Kind.REGISTERED: {"Encounter"},
    Kind.DISCHARGED: {"Encounter"},
    Kind.BOOKED: {"Appointment"},
    Kind.ATTENDED: {"Appointment"},
    Kind.ENROLLED: {"EpisodeOfCare"},
    Kind.EPISODE_COMPLETED: {"EpisodeOfCare"},
    Kind.PRESCRIBED: {"MedicationRequest"},
    Kind.DISPENSED: {"MedicationDispense"},
    Kind.REFILL_GAP: {"MedicationRequest", "MedicationDispense"},
    Kind.TRIAL_ELIGIBLE: {"ResearchSubject"},
}
# What these types hold, a milestone may be part of, told by, or shown to be about: a denial of one may mean it
NEAR = frozenset(
    """AppointmentResponse Basic Binary Bundle CarePlan CareTeam Composition Condition List Medication
    MedicationAdministration MedicationStatement Patient Person ResearchStudy Schedule Slot""".split()
)
CLEAR = RESOURCE_TYPES - NEAR


class Actor(Part, frozen=True, gc=False):
    role: Concept | None = None
    reference: Reference | None = None
    modifierExtension: object = UNSET


class Data(Part, frozen=True, gc=False):
    meaning: str
    reference: Reference
    modifierExtension: object = UNSET


class Provision(Part, frozen=True, gc=False):
    """Of the elements that narrow a rule, one that is there but empty or null is not understood."""

    type: str | None = None
    period: Period | None = None
    actor: list[Actor] | None = None
    action: list[Concept] | None = None
    securityLabel: list[Coding] | UnsetType = UNSET
    purpose: list[Coding] | None = None
    class_: list[Coding] | UnsetType = field(default=UNSET, name="class")
    code: list[Concept] | UnsetType = UNSET
    dataPeriod: Period | None = None
    data: list[Data] | UnsetType = UNSET
    provision: "list[Provision] | UnsetType" = UNSET
    modifierExtension: object = UNSET


# --- each criterion, sorted; None as soon as one code is not understood ----------------------------------------------


def purposes(one: Provision, codes: Mapping[str, object]) -> tuple[str, ...] | None:
    """A code counts under its own system alone."""
    return _sorted({c.code if c.code in codes and c.system == _system(c.code) else None for c in one.purpose or ()})


def _system(purpose: str | None) -> str:
    return ACT_REASON if purpose in PURPOSES_OF_USE else OWN_PURPOSES


def actions(one: Provision) -> tuple[str, ...] | None:
    named: set[str | None] = set()
    for concept in one.action or ():
        known = {c.code for c in concept.coding or () if c.system == ACTIONS and c.code in KNOWN_ACTIONS}
        named |= known or {None}
    return _sorted(named)


def recipients(one: Provision, denies: bool, around: Around) -> tuple[str, ...] | None:
    """How its recipients are named; "?" marks who is named in another role. A denial to a class of recipients names
    nobody, hence everybody: who belongs to the class is not known here."""
    named: set[str] = set()
    anybody = False
    for actor in one.actor or ():
        codings = (actor.role.coding or []) if actor.role else []
        roles = {c.code for c in codings if c.system == ROLES}
        if actor.reference is None:  # a class of recipients, by a coding beside its role
            who = {f"{c.system}|{c.code}" for c in codings if c.system and c.code and c.system != ROLES}
        else:
            who = _organisation(actor.reference, denies, around.organisations)
        if not roles or not roles <= KNOWN_ROLES or not who:
            return None
        is_class = actor.reference is None or any(f"/{kind}" in f"/{name}" for kind in CLASSES for name in who)
        anybody = anybody or (denies and is_class and RECIPIENT_ROLE in roles)
        named.add(("" if RECIPIENT_ROLE in roles else "?") + ALSO.join(sorted(who)))
    return () if anybody else tuple(sorted(named))


def _organisation(reference: Reference, denies: bool, known: Mapping[str, str]) -> set[str]:
    """How an actor is named: its identifier as system|value, its reference as Type/id with the base if absolute.

    `known` holds the identifiers of the Organizations that came along. One of them stands for the reference to it: our
    own in any rule, another in a permit, which it can only fail to match, if the reference itself cannot be read. A
    denial keeps the reference beside it. Empty where the name stands for something that is not read here (#contained,
    urn:uuid, a conditional reference).
    """
    text, names = reference.reference or "", set()
    base, local = split_reference(text)
    literal, stated = LITERAL.fullmatch(local) is not None, known.get(text.partition("/_history/")[0], "")
    kind = local.partition("/")[0] if literal else "Organization" if stated else reference.type
    if reference.type not in (None, kind):  # it contradicts itself
        return set()
    if reference.identifier is not None and reference.identifier.system and reference.identifier.value:
        names.add(f"{reference.identifier.system}|{reference.identifier.value}")
    resolved = stated.startswith(OWN_ORGANISATIONS) or (stated != "" and not (literal or names or denies))
    if resolved:
        names.add(stated)
    if literal and (denies or not resolved):
        names.add(f"{base}/{local}" if base else local)
    return names


def kinds(one: Provision, denies: bool, by_form: bool) -> tuple[Kind, ...] | None:
    """The milestones that class, code and data leave: of a permit surely, of a denial possibly."""
    found: tuple[Kind, ...] | None = None
    if one.class_:
        types = {c.code if c.system == RESOURCES else None for c in one.class_}
        if not denies:
            found = tuple(kind for kind in Kind if RESOURCES_OF[kind] <= types)
        elif types <= CLEAR:
            found = tuple(kind for kind in Kind if RESOURCES_OF[kind] & types)
    return () if not denies and (one.data or (one.code and not by_form)) else found


def classes(one: Provision, known: Sensitivity, denies: bool) -> Classes | None:
    """The classes that its labels name; None without labels. A label that is no class's, of no system, or that does not
    say why it restricts is not understood: then a permit names nothing, and a denial has no labels. So is in a permit
    one of several classes, since it does not say which. Its `R` is the most that other labels may have of
    confidentiality (Consent.provision.securityLabel: "R or lower") and names nothing itself; what is normal or lower is
    what nobody marked, so a permit of that alone is for the unmarked."""
    if not one.securityLabel:
        return None
    labels = {(label.system, label.code) for label in one.securityLabel}
    if not denies:
        if labels <= (plain := NORMAL - known.labels.keys()):
            return UNMARKED
        labels -= {RESTRICTED_LABEL, *plain}
    named = [known.labels.get(label, ()) if label[0] else () for label in labels]
    if any(not its or RESTRICTED in its or (len(its) > 1 and not denies) for its in named):
        return None if denies else ()
    return tuple(sorted({name for its in named for name in its}))


def both(one: tuple[Word, ...] | None, other: tuple[Word, ...] | None) -> tuple[Word, ...] | None:
    if one is None or other is None:
        return other if one is None else one
    return tuple(word for word in one if word in other)


def form_of(concept: Concept, known: Mapping[str, Form]) -> Form | None:
    found = [known[name] for c in concept.coding or () if (name := f"{c.system}|{c.code}") in known]
    return found[0] if found else None


def _sorted(found: set[str | None]) -> tuple[str, ...] | None:
    return None if None in found else tuple(sorted(one for one in found if one is not None))
