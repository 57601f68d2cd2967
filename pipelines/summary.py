"""The summary of a run, added up from the counts that the stages wrote as elements, and the laws over it.

    received            = rejected + repeated + consent + control + unrouted + events_routed
    held before + pairs = released + suppressed + review + held

What was received is counted where messages are read, outcomes where their audit records are written: a message that
vanished between the two, or a pair without a record, breaks a law.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from schemas.instant import BEGINNING
from schemas.outcome import Verdict
from schemas.policy import Policy
from transforms.rules.notification import Gaps

_MESSAGES = (Verdict.REJECTED, Verdict.REPEATED, Verdict.CONSENT, Verdict.CONTROL, Verdict.UNROUTED)
_PAIRS = (Verdict.RELEASED, Verdict.SUPPRESSED, Verdict.REVIEW)
# What becomes of a pair after its verdict was counted.
_LATER = (Verdict.RETRACTED, Verdict.RESTORED, Verdict.ASKED_AGAIN, Verdict.REVIEW_CLOSED)


class Counted(NamedTuple):
    """The sums of a run: the facts of the summary, the newest instant that any fact names, and broken laws."""

    facts: dict[str, Any]
    newest: int
    broken: list[str]


def counted(counts: Path, policy: Policy, held_before: int, shards: int | None) -> Counted:
    """Add up the count files of a staging folder. `held_before`: the pairs that the ledger's last run held back;
    `shards`: those of the ledger, each of which has to move forward (None: there is no ledger)."""
    totals: Counter[str] = Counter()
    types: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    routes = {route.route: dict.fromkeys(("released", "suppressed", "review"), 0) for route in policy.routes}
    newest = BEGINNING
    gaps = Gaps()
    for path in counts.glob("*"):
        if path.name.startswith("."):
            continue
        found = json.loads(path.read_bytes())
        if path.name.startswith("audit-"):
            for route, verdict, reason, number in found["outcomes"]:
                reasons[reason] += number
                if verdict == Verdict.HELD:
                    continue  # not a last word: what is held in the end is counted where the ledger is written
                totals[verdict] += number
                if verdict in _PAIRS:
                    routes[route][verdict] += number
        else:
            newest = max(newest, found.pop("newest", BEGINNING))
            types.update({k.removeprefix("unrouted "): n for k, n in found.pop("types", {}).items() if k[0] == "u"})
            for status in found.pop("statuses", ()):
                gaps.add(*status)
            totals.update(found)
    names = ("received", *_MESSAGES, "events_routed", "pairs", *_PAIRS, *_LATER)
    facts: dict[str, Any] = {
        **{name: totals[name] for name in names},
        "held_before": held_before,
        "held": held_before + totals["held_more"],
        "routes": routes,
        "reasons": dict(sorted(reasons.items())),
        "unrouted_types": dict(sorted(types.items())),
        "missed_notifications": gaps.missed,
        "cells": totals["cells"],
        "cells_withheld": totals["cells_withheld"],
        "cells_open": totals["cells_open"],
    }
    broken = broken_laws(facts)
    if shards is not None and totals["shards"] != shards:
        broken.append("every shard is moved forward once")
    return Counted(facts, newest, broken)


def broken_laws(facts: dict[str, Any]) -> list[str]:
    """The laws that the sums break, each as its equation."""
    broken = []
    if facts["received"] != sum(facts[name] for name in _MESSAGES) + facts["events_routed"]:
        broken.append("received = rejected + repeated + consent + control + unrouted + events_routed")
    if facts["held_before"] + facts["pairs"] != sum(facts[name] for name in (*_PAIRS, "held")):
        broken.append("held before + pairs = released + suppressed + review + held")
    return broken
