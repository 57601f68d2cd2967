"""What reviewers said: a verdict answers one question, for one milestone on one route, and nothing else.

    question   why a pair is in review: the reason, and a digest of the facts that it rests on
    allow      that question stands in the way no more; every other rule still decides. What is asked later, because of
               another fact, is another question
    deny       the milestone does not leave on that route, whatever else is known

A denial by the patient, a missing permit, a newer milestone or a cancellation is no question, so no verdict answers it.
Rule source: DESIGN section 3 (a signed verdict ends a review); 45 CFR 164.508(b)(5): what a patient took back, nobody
at the hospital can give.
"""

from collections.abc import Iterable
from itertools import chain

from schemas.event import Consent, Milestone, digest
from schemas.opaque import opaque
from schemas.outcome import Reason
from schemas.timeline import Pair
from transforms.rules.first_copy import Received
from transforms.rules.routing import RouteRule

_MARK = "."  # between the reason and the digest; in neither
_WORDS = frozenset(Reason)


def question(reason: Reason, basis: Iterable[bytes | int]) -> str:
    """What a reviewer is asked: may this pair pass in spite of `reason`, which rests on `basis`?"""
    return f"{reason}{_MARK}{opaque(digest(*basis)[:16])}"


def reason_of(asked: str) -> Reason | None:
    """The reason that a question is about; None if it is no question."""
    word, _, basis = asked.partition(_MARK)
    return Reason(word) if basis and word in _WORDS else None


class Judgements:
    """What is in doubt of one patient's milestones, and all that was said of it by now. `any`: was anything?"""

    __slots__ = ("_adult_at", "_allowed", "_changes", "_denied", "any", "conflicting")

    def __init__(self, received: Received, adult_at: int, horizon: int) -> None:
        self.conflicting = received.conflicting()
        self.any = bool(received.judgements)
        self._changes, self._adult_at = received.changes, adult_at
        self._allowed: dict[tuple[bytes, str, str], int] = {}  # (milestone, route, question) → when it was first said
        self._denied: set[tuple[bytes, str]] = set()
        for fact in received.judgements:
            if not fact.allows:  # binds from when it is known, whatever its date
                self._denied.add((fact.what, fact.route))
            elif fact.said <= horizon:
                place = (fact.what, fact.route, fact.question)
                self._allowed[place] = min(fact.said, self._allowed.get(place, fact.said))

    def asked(self, one: Milestone, reason: Reason, facts: Iterable[Consent] = ()) -> str:
        """What a reviewer is asked about a milestone that is in review for this reason."""
        if reason is Reason.CONFLICTING_COPY:
            return question(reason, sorted(self.conflicting[one.what]))
        if reason is Reason.IDENTITY_CHANGED:
            return question(reason, chain.from_iterable(sorted((change.key, change.time) for change in self._changes)))
        if reason is Reason.MINOR:
            return question(reason, [self._adult_at])
        return question(reason, sorted(fact.what for fact in facts))

    def denies(self, one: Milestone, rule: RouteRule | None) -> bool:
        """Did anybody say no?"""
        return rule is not None and (one.what, rule.name) in self._denied

    def lifts(self, one: Milestone, rule: RouteRule | None, reason: Reason, facts: Iterable[Consent] = ()) -> bool:
        """Did anybody say that what stands in the way of this pair does not?"""
        if not self._allowed or rule is None:
            return False
        return (one.what, rule.name, self.asked(one, reason, facts)) in self._allowed

    def answers(self, pair: Pair) -> bool:
        """Was the question that a pair is in review for answered with yes, and in time?"""
        said = self._allowed.get((pair.what, pair.route, pair.question))
        return said is not None and said < pair.deadline
