"""`limen simulate`: a synthetic hospital's feeds, and in a side file the truth of what must be released.

    hospital (who, when, what becomes of it) ── interface_engine (how it is told) ──▶ DIR/feeds
                    └──────────────── truth (what must be released) ──────────────────▶ DIR/truth.json

With several batches the same messages lie in DIR/feeds/01, 02, … by their arrival, and DIR/batches.json says as of when
each is to be decided. The truth never passes through the boundary's own rules. Equal arguments write equal bytes: the
simulated time starts on a fixed day and no clock is read.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pipelines.simulated import feeds
from pipelines.simulated.chart import History, Milestone, Patient
from pipelines.simulated.hospital import START, Hospital
from pipelines.simulated.interface_engine import InterfaceEngine
from pipelines.simulated.truth import CRM, ROUTES, expected, taken_back
from schemas.errors import ConfigurationError
from schemas.outcome import Reason

RECEIVED = ("rejected", "repeated", "consent", "control", "unrouted", "events_routed")
NIGHT = timedelta(hours=4)  # deliveries are cut when nothing is told
SHOWN = "released"


class Simulated(NamedTuple):
    """What was written. `counts` is conserved: received is the sum of the others (DESIGN section 7). `batches`: the
    folder of each delivery and the instant as of which it is to be decided."""

    feeds: Path
    truth: Path
    as_of: str
    counts: Mapping[str, int]
    released: int
    batches: tuple[tuple[Path, str], ...]


def simulate(patients: int, days: int, seed: int, output: Path, batches: int = 1) -> Simulated:
    """Write `output`/feeds and `output`/truth.json. Raises ConfigurationError, before anything is written."""
    hospital = Hospital(max(patients, 0), max(days, 0), seed)
    as_of = hospital.calendar["as of"]
    _check(patients, days, batches, (hospital.calendar["later"] - START).days, output)
    folder = output / "feeds"
    cuts = _cuts(hospital.calendar, batches)
    folders = {folder if batches == 1 else folder / f"{n:02}": cut for n, cut in enumerate(cuts, 1)}

    engine = InterfaceEngine(hospital.calendar, seed)
    found: dict[str, list[dict[str, str]]] = {SHOWN: [], "withheld": [], "retracted": []}
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    personas: Counter[str] = Counter()
    identifiers: set[str] = set()
    story: dict[str, str] = {}
    for history in hospital.histories():
        told = engine.tell(history)
        personas[history.persona.name] += 1
        identifiers |= _identifying(history)
        story = story or _story(history)
        for route, milestone, reason in expected(history):
            outcomes[route][reason or SHOWN] += 1
            if route in CRM:
                entry = _entry(route, history.patient, milestone)
                found["withheld" if reason else SHOWN].append(entry | ({"reason": reason} if reason else {}))
        found["retracted"] += [_entry(*one[:1], history.patient, one[1]) for one in taken_back(history, told, cuts)]
    for name, its in ROUTES.items():
        outcomes[name][Reason.CANCELLATION] += sum(engine.cancellations[kind] for kind in its.kinds)

    engine.write(folders)
    counts = {"received": engine.counts.total(), **{verdict: engine.counts[verdict] for verdict in RECEIVED}}
    told_as = tuple((path, feeds.instant(at)) for path, at in folders.items() if path.is_dir())  # in some nothing came
    deliveries = [{"feeds": path.relative_to(output).as_posix(), "as_of": at} for path, at in told_as]
    facts = {
        "as_of": feeds.instant(as_of),
        "patients": patients,
        "days": days,
        "seed": seed,
        "batches": deliveries,
        "counts": counts,
        "messages": {outcome: dict(sorted(engine.reasons[outcome].items())) for outcome in sorted(engine.reasons)},
        "pairs": {route: dict(sorted(outcomes[route].items())) for route in sorted(outcomes)},
        "personas": dict(sorted(personas.items())),
        "story": story,
    }
    _write(output / "truth.json", facts, {**found, "identifiers": identifiers})
    if batches > 1:
        (output / "batches.json").write_text(json.dumps(deliveries, indent=1) + "\n")
    return Simulated(folder, output / "truth.json", feeds.instant(as_of), counts, len(found[SHOWN]), told_as)


def _check(patients: int, days: int, batches: int, longest: int, output: Path) -> None:
    if patients < 1:
        raise ConfigurationError("--patients", "less than one patient", "ask for at least 1")
    if days < 1:
        raise ConfigurationError("--days", "less than one day", "ask for at least 1")
    if not 1 <= batches <= longest:
        raise ConfigurationError("--batches", "not a number of deliveries", f"ask for 1 to {longest}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigurationError("--output", "not an empty folder", "name a new or an empty one")


def _cuts(calendar: Mapping[str, datetime], batches: int) -> list[datetime]:
    """The instants up to which each delivery reaches: equal parts of the days in which something arrives, each cut at
    night; the last one reaches to the end of all."""
    days = (calendar["later"] - START).days
    return [*(START + timedelta(days=days * n // batches) + NIGHT for n in range(1, batches)), calendar["as of"]]


def _entry(route: str, patient: Patient, milestone: Milestone) -> dict[str, str]:
    return {
        "route": route,
        "system": feeds.SYSTEM,
        "value": patient.mrn,
        "visit": milestone.visit.number,
        "kind": milestone.kind,
        "day": f"{milestone.at:%Y-%m-%d}",
    }


def _identifying(history: History) -> set[str]:
    """What must occur in nothing that leaves the hospital, nor in its audit log."""
    p = history.patient
    found = {p.mrn, p.resource, p.family, p.street, p.phone, p.ssn, p.account, p.policy, p.note, p.born.isoformat()}
    visits = {milestone.visit for milestone in history.milestones}
    return found | {visit.number for visit in visits} | {visit.clinician.family for visit in visits}


def _story(history: History) -> dict[str, str]:
    """One patient to follow from end to end: enrolled, discharged, revoked."""
    granted, ended = history.consents
    discharged = history.milestones[-1]
    return {
        "system": feeds.SYSTEM,
        "value": history.patient.mrn,
        "visit": discharged.visit.number,
        "enrolled": feeds.instant(granted.given),
        "discharged": feeds.instant(discharged.at),
        "revoked": feeds.instant(ended.given),
    }


def _write(path: Path, facts: Mapping[str, Any], lists: Mapping[str, Iterable[Any]]) -> None:
    """One JSON object; each entry of its lists, sorted, on a line of its own."""
    parts = [f'"{name}": {json.dumps(fact, ensure_ascii=False)}' for name, fact in facts.items()]
    for name, entries in lists.items():
        lines = sorted(json.dumps(entry, ensure_ascii=False) for entry in entries)
        parts.append(f'"{name}": [\n' + ",\n".join(lines) + "\n]")
    path.write_bytes(("{\n" + ",\n".join(parts) + "\n}\n").encode())
