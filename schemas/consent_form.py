"""What a consent form stands for, as people write it: form type → the permit that its signature gives.

Most documents in practice carry a form's name and a signature, and none of the criteria that a FHIR provision could
hold. Rule source: 45 CFR 164.508(c)(1) (what an authorization must name); DESIGN section 3, Consent.
"""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from schemas.event import Kind
from schemas.instant import DAY, FOREVER
from schemas.jurisdiction import Place
from schemas.recipe import Name, Strict

Coded = Annotated[str, StringConstraints(pattern=r"^[^|\s]+\|[^|\s]+$")]  # system|code


class ConsentForm(Strict):
    """One form. `codes` name it, each as system|code: in Consent.category, Consent.policyRule, provision.code, the
    document that Consent.sourceReference names, CON-2 (the system is CWE.3) or CON-3 (the system is `CON-3`). `days` is
    how long a signature lasts, without it as long as the document says. `jurisdictions` are those whose law it was
    written for, and all that lie within them; in a policy of another it is no form.
    """

    form: Name
    codes: tuple[Coded, ...] = Field(min_length=1)
    purposes: tuple[str, ...] = Field(min_length=1)
    recipients: tuple[str, ...] = ()
    actions: tuple[Literal["collect", "access", "use", "disclose", "correct"], ...] = ("disclose",)
    kinds: tuple[Kind, ...] | None = None
    days: int | None = Field(default=None, ge=1, le=36_500)
    jurisdictions: tuple[Place, ...] = Field(min_length=1)

    @property
    def lasts(self) -> int:
        """How long a signature lasts, in microseconds."""
        return FOREVER if self.days is None else self.days * DAY
