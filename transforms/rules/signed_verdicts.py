"""A reviewer's verdict as it comes back: signed by this hospital, by a role that the policy lets answer this.

Whoever may answer items may refuse; what a role may overrule stands in the policy (`review.roles`). Which verdict has
an effect, and that none overrules a denial, is decided with the rest of what is known (`rules.judgement`).
"""

from schemas.errors import MessageError
from schemas.event import AnyFact, Judgement, digest
from schemas.instant import from_fhir
from schemas.keyset import Keyset
from schemas.outcome import Reason
from schemas.policy import ReviewTerms
from schemas.verdict import TYPE, Notary
from transforms.rules.judgement import reason_of


class SignedVerdicts:
    """Reads the verdicts of one hospital's reviewers."""

    def __init__(self, keyset: Keyset, terms: ReviewTerms) -> None:
        self._notary, self._roles = Notary(keyset), terms.roles

    def read(self, data: object) -> list[AnyFact]:
        """The fact that a verdict is. Raises MessageError if it is not one of ours, or not this role's to give."""
        signed, said, matter = self._notary.verified(data)
        instant, reason = from_fhir(said.said), reason_of(matter.question)
        if instant is None or instant.span or reason is not said.reason:
            raise MessageError(Reason.INVALID_ENVELOPE)
        may_overrule = self._roles.get(said.role)
        allows = said.verdict == "allow"
        if may_overrule is None or (allows and reason not in may_overrule):
            raise MessageError(Reason.ROLE_NOT_ALLOWED)
        key = digest(TYPE, signed)
        return [Judgement(key, matter.patient, TYPE, matter.what, said.route, matter.question, allows, instant.time)]
