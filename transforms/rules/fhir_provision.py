"""The provisions of a FHIR R4 Consent, however deep, to a flat list of rules that each stand for themselves.

    root-is-rule         the root provision is a rule; the nested ones are exceptions to it
    root-is-base-deny    the root only says that all else is refused; the nested rules count
    root-is-context      the root's criteria frame the nested rules, which count; a root that denies is a rule

    period, dataPeriod   a nested rule's lie within its parent's; so do a nested permit's class and securityLabel
    a nested deny        binds wherever it may match: what it does not name itself, it means all of. One that leaves
                         nothing of a permit is no exception to it but a contradiction
    a nested permit      adds what it names itself in full, within its parent's periods and data; beneath a denial
                         nothing, and beneath a root denial that is a rule it contradicts it

What is not understood is a rule that says `unclear`. Rule source: FHIR R4 Consent.provision; DESIGN section 3, Consent.
"""

from collections.abc import Mapping
from typing import NamedTuple

from msgspec import UNSET
from msgspec.structs import replace

from schemas.event import Kind, Says
from schemas.instant import BEGINNING, FOREVER, interval_from_fhir
from transforms.rules import fhir_criteria
from transforms.rules.consent_forms import ROOT_IS_BASE_DENY, ROOT_IS_CONTEXT, ROOT_IS_RULE, Form
from transforms.rules.fhir_criteria import UNMARKED, Provision, both, form_of
from transforms.rules.fhir_parts import Around, Period
from transforms.rules.sensitivity import Classes

MOST_RULES = 200  # of one document; more are not weighed one by one


class Rule(NamedTuple):
    """What one provision says. Empty criteria are absent; `kinds` and `classes` as in `schemas.event.Consent`.
    `partly`: it is narrowed to data of which nobody knows here whether a milestone belongs to them."""

    says: Says
    start: int = BEGINNING
    end: int = FOREVER
    data_start: int = BEGINNING
    data_end: int = FOREVER
    purposes: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    recipients: tuple[str, ...] = ()
    kinds: tuple[Kind, ...] | None = None
    partly: bool = False
    classes: Classes | None = None


class Reader(NamedTuple):
    """With what a provision is read: what surrounds the document, the known purposes, and when it was given."""

    around: Around
    purposes: Mapping[str, object]
    given: int


WHOLE = Rule(Says.PERMIT)
UNCLEAR = Rule(Says.UNCLEAR)


# --- the tree ------------------------------------------------------------------------------------------------------


def rules(root: Provision, form: Form | None, reader: Reader) -> list[Rule]:
    """The rules of a document, permits first; one that says `unclear` stands alone but for the denials.

    `form` is the one that the document names: it fills in a root that carries no criteria.
    """
    found = _within_profile(root, form, reader)
    permits = [rule for rule in found if rule.says is Says.PERMIT]
    every_denial = [rule for rule in found if rule.says is Says.DENY]
    denials = [one for one in every_denial if not any(_takes_back(one, permit) for permit in permits)]
    sound = found and not _compound(permits, reader.around.reading.sensitivity.alone)
    if len(permits) + len(denials) < len(found) or len(found) > MOST_RULES or not sound:
        return [UNCLEAR, *denials[:MOST_RULES]]
    general = [rule._replace(classes=None) if rule.classes == UNMARKED else rule for rule in permits]
    return general + denials


def _compound(permits: list[Rule], alone: frozenset[str]) -> bool:
    """Does a document permit something else beside what must be permitted alone? Such an authorization is none, 45 CFR
    164.508(b)(2)(iv) and (b)(3)(ii)."""
    permitted = {name for permit in permits for name in permit.classes or UNMARKED}
    return len(permitted) > 1 and not permitted.isdisjoint(alone)


def _takes_back(denial: Rule, permit: Rule) -> bool:
    """Does a denial leave nothing of a permit of the same document? Then it is no exception: the two contradict."""
    for own, other in zip(_named(denial), _named(permit), strict=True):
        if own and not (other and set(other) <= set(own)):
            return False
    if denial.partly:
        return False
    for some, its in ((denial.kinds, permit.kinds), (denial.classes, permit.classes)):
        if some is not None and not (its and set(its) <= set(some)):
            return False
    whole = denial.start <= permit.start and permit.end <= denial.end
    return whole and denial.data_start <= permit.data_start and permit.data_end <= denial.data_end


def refused(root: Provision, form: Form | None, reader: Reader) -> list[Rule]:
    """The rules of a document that was rejected: its root, as a denial."""
    return _read(replace(root, type="deny"), WHOLE, WHOLE, form, reader)


def _within_profile(root: Provision, form: Form | None, reader: Reader) -> list[Rule]:
    nested, profile = root.provision or [], reader.around.reading.consents.root
    signed = form is not None and root.type != "deny" and not _narrowed(root)
    if signed and root.type is None:  # the form says what it is
        root = replace(root, type="permit")
    denies = root.type == "deny" and (profile != ROOT_IS_BASE_DENY or not nested)
    sure = [one for one in nested if not _holds_permit(one)]
    if denies and len(sure) < len(nested):  # it contradicts itself
        return [UNCLEAR, *_several(sure, _windows(root, WHOLE, reader) or WHOLE, WHOLE, reader)]
    if profile == ROOT_IS_RULE or denies or (signed and not nested):
        return _rules(root, WHOLE, WHOLE, form, reader)
    if profile == ROOT_IS_BASE_DENY:
        base = _windows(root, WHOLE, reader)
        if root.type != "deny" or base is None or _narrowed(root) or root.modifierExtension is not UNSET:
            return [UNCLEAR]
        return _several(nested, base, WHOLE, reader)
    assert profile == ROOT_IS_CONTEXT  # noqa: S101  the policy knows no fourth
    frame = _read(replace(root, type="permit"), WHOLE, WHOLE, None, reader)
    if len(frame) > 1 or frame[0].says is not Says.PERMIT:  # the frame itself is not understood
        return [UNCLEAR]
    return _several(nested, frame[0], frame[0], reader)


def _rules(one: Provision, parent: Rule, frame: Rule, form: Form | None, reader: Reader) -> list[Rule]:
    """A provision and all beneath it. `frame` holds the criteria that a permit need not name itself."""
    own = _read(one, parent, frame, form, reader)
    if not (nested := one.provision or []):
        return own if one.provision is UNSET else [*own, UNCLEAR]
    within = _windows(one, parent, reader)
    if within and own[0].says is Says.PERMIT:
        within = within._replace(kinds=own[0].kinds, classes=own[0].classes)
    beneath = _several(nested, within, frame, reader) if within else [UNCLEAR]
    if one.type == "deny":  # an exception to a denial adds nothing
        beneath = [rule for rule in beneath if rule.says is not Says.PERMIT]
    return own + beneath


def _several(nested: list[Provision], parent: Rule, frame: Rule, reader: Reader) -> list[Rule]:
    """Provisions side by side, and all beneath them."""
    return [rule for one in nested for rule in _rules(one, parent, frame, None, reader)]


def _holds_permit(one: Provision) -> bool:
    return one.type == "permit" or any(_holds_permit(nested) for nested in one.provision or ())


def _narrowed(one: Provision) -> bool:
    """Does it carry a criterion of its own?"""
    listed = (one.securityLabel, one.class_, one.code, one.data)
    return bool(one.purpose or one.actor or one.action) or any(part is not UNSET for part in listed)


# --- one provision -------------------------------------------------------------------------------------------------


def _read(one: Provision, parent: Rule, frame: Rule, form: Form | None, reader: Reader) -> list[Rule]:
    """The rules of one provision alone: one, or one for each form that its code names."""
    within = _windows(one, parent, reader)
    listed = (one.securityLabel, one.class_, one.code, one.data)
    parts = (one, *(one.actor or ()), *(one.data or ()))
    if within is None or one.type not in ("permit", "deny") or any(part == [] for part in listed):
        return [UNCLEAR]
    if any(part.modifierExtension is not UNSET for part in parts):
        return [UNCLEAR]
    denies = one.type == "deny"
    purposes, actions = fhir_criteria.purposes(one, reader.purposes), fhir_criteria.actions(one)
    recipients = fhir_criteria.recipients(one, denies, reader.around)
    if purposes is None or actions is None or recipients is None:
        return [UNCLEAR]
    forms: list[Form | None] = [None if _narrowed(one) else form]
    known = reader.around.reading.consents.forms
    if one.code:
        named = [form_of(concept, known) for concept in one.code]
        forms = [found for found in named if found is not None] if not denies or None not in named else [None]
    kinds = fhir_criteria.kinds(one, denies, by_form=bool(one.code and forms))
    classes = fhir_criteria.classes(one, reader.around.reading.sensitivity, denies)
    if denies:
        partly = bool(one.code or one.data or (one.securityLabel and classes is None))
        own = within._replace(
            says=Says.DENY, actions=actions, recipients=recipients, kinds=kinds, classes=classes, partly=partly
        )
        return [own._replace(purposes=purposes or (found.purposes if found else ())) for found in forms]
    own = within._replace(says=Says.PERMIT, purposes=purposes, actions=actions, recipients=recipients)
    own = _filled(own._replace(kinds=both(kinds, parent.kinds), classes=both(classes, parent.classes)), frame)
    return [own if found is None else _signed(own, found, reader.given) for found in forms] or [own]


def _windows(one: Provision, parent: Rule, reader: Reader) -> Rule | None:
    """Its period and dataPeriod within its parent's, with its parent's kinds; None if unreadable."""
    period, data = _window(one.period, reader.around), _window(one.dataPeriod, reader.around)
    if period is None or data is None:
        return None
    return WHOLE._replace(
        start=max(parent.start, period[0]),
        end=min(parent.end, period[1]),
        data_start=max(parent.data_start, data[0]),
        data_end=min(parent.data_end, data[1]),
        kinds=parent.kinds,
    )


def _window(period: Period | None, around: Around) -> tuple[int, int] | None:
    """A period from the first instant of its start to the last of its end, as of a date, a month or a year; None if it
    is unreadable or has no border at all."""
    start, end = BEGINNING, FOREVER
    if period is not None and period.start is None and period.end is None:
        return None
    if period is not None and period.start is not None:
        if (first := interval_from_fhir(period.start, around.reading.zone)) is None:
            return None
        start = first.time
    if period is not None and period.end is not None:
        if (last := interval_from_fhir(period.end, around.reading.zone)) is None:
            return None
        end = last.time + max(last.span, 1)  # FHIR R4 Period: the end includes whatever matches it
    return start, end


def _signed(rule: Rule, form: Form, given: int) -> Rule:
    """A permit under a form: what it does not name is the form's, what it names is what both do."""
    whole = Rule(
        Says.PERMIT, end=form.end(given), purposes=form.purposes, actions=form.actions, recipients=form.recipients,
        kinds=form.kinds,
    )  # fmt: skip
    return _filled(rule._replace(end=min(rule.end, whole.end), kinds=both(rule.kinds, whole.kinds)), whole)


def _filled(rule: Rule, frame: Rule) -> Rule:
    """A permit within a frame. What both name but in nothing the same leaves a permit of nothing."""
    named = []
    for own, framed in zip(_named(rule), _named(frame), strict=True):
        same = tuple(one for one in own if one in framed) if own and framed else own or framed
        if (own or framed) and not same:
            return rule._replace(kinds=())
        named.append(same)
    return rule._replace(purposes=named[0], actions=named[1], recipients=named[2])


def _named(rule: Rule) -> tuple[tuple[str, ...], ...]:
    """What a rule names, for each of which an empty list names none."""
    return rule.purposes, rule.actions, rule.recipients
