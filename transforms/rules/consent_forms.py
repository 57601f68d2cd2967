"""How a source means its consents: what its root provision stands for, whether a permit must be verified, and what the
forms stand for that its documents name.

A form fills in what a document does not say. It never widens what a document does say, and a form that is not in the
table stands for nothing. Rule source: DESIGN section 3, Consent; the table is the policy's consent-forms.yaml.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from schemas.consent_form import ConsentForm
from schemas.event import Kind
from schemas.instant import FOREVER
from schemas.policy import Policy

ROOT_IS_RULE = "root-is-rule"  # the root provision is the rule, nested ones are exceptions to it
ROOT_IS_BASE_DENY = "root-is-base-deny"  # the root only says that all else is refused, nested permits count
ROOT_IS_CONTEXT = "root-is-context"  # the root only frames the nested rules
CANONICAL = "urn:canonical"  # stands for the system of a questionnaire's url without a version


class Form(NamedTuple):
    """The permit that a form stands for. `lasts`: for how long, in microseconds."""

    purposes: tuple[str, ...]
    recipients: tuple[str, ...]
    actions: tuple[str, ...]
    kinds: tuple[Kind, ...] | None
    lasts: int

    def end(self, given: int) -> int:
        """Until when a signature of that instant lasts."""
        return FOREVER if self.lasts == FOREVER else given + self.lasts


class Profile(NamedTuple):
    """How a source means its consents. `verified`: a permit needs a Consent.verification; `forms`: by system|code;
    `documented`: a permit must name its signed document."""

    root: str = ROOT_IS_RULE
    verified: bool = False
    forms: Mapping[str, Form] = {}
    documented: bool = False


def profile(policy: Policy) -> Profile:
    """The profile of the policy's source, with the forms that its jurisdiction knows, or one that it lies within."""
    places = set(policy.lineage)
    known = [form for form in policy.forms if places & set(form.jurisdictions)]
    forms = {code: _form(form) for form in known for code in form.codes}
    source = policy.source
    return Profile(source.consent_profile, source.consent_verified, forms, source.consent_document)


def _form(written: ConsentForm) -> Form:
    purposes, recipients, actions = (
        tuple(sorted(names)) for names in (written.purposes, written.recipients, written.actions)
    )
    return Form(purposes, recipients, actions, written.kinds, written.lasts)


def form_of(codes: Iterable[str], known: Profile) -> Form | None:
    """The one form that these codes name. Two different forms on one document contradict each other: None."""
    named = {known.forms[code] for code in codes if code in known.forms}
    return named.pop() if len(named) == 1 else None
