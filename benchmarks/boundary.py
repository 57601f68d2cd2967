"""What the boundary costs: `limen run` over Beam's own line-by-line copy of the same file, in one run on one machine.

    python benchmarks/boundary.py [--events 300000 1000000] [--rounds 3]

Prints, for each size, the copy (ReadFromText to WriteToText), `limen run` with one payload route and with all routes of
the default policy, in turn and as the ratio of the medians, with the largest resident memory; then the microseconds an
event of each stage, each stage's function called by hand on the same events. Seconds are processor seconds, which a
busy neighbour disturbs least.

The events are CloudEvents, one a line: for every patient one consent and nineteen finished Encounters; three patients
in four permit. Every run starts with an empty state folder, so that each pays for its own vault.
"""

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

AS_OF = "2026-06-01T00:00:00Z"
EACH = 20  # lines for each patient
ONE_ROUTE = "hcp-notification"  # the dearest: a payload and a record for every event


def main() -> None:
    """Parse, make the files, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, nargs="+", default=[300_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--copy", nargs=2, help=argparse.SUPPRESS)  # the copy, in a process of its own
    chosen = parser.parse_args()
    if chosen.copy:
        copy(*chosen.copy)
        return
    with tempfile.TemporaryDirectory(prefix="limen-benchmark-") as folder:
        for events in chosen.events:
            compare(Path(folder), events, chosen.rounds)
        stages(Path(folder), min(chosen.events))


def make(path: Path, events: int) -> None:
    """The file of events, shuffled, the same for the same number."""
    chance = random.Random(events)  # noqa: S311  not for secrets
    lines = []
    for patient in range(events // EACH):
        who = {"identifier": {"system": "urn:id:GENERAL", "value": f"{10_000_000 + patient}"}}
        lines.append(line(f"c{patient}", consent(patient, who)))
        for visit in range(EACH - 1):
            day, second = chance.randrange(1, 29), chance.randrange(60)
            lines.append(
                line(
                    f"e{patient}-{visit}",
                    {
                        "resourceType": "Encounter",
                        "id": f"{patient}-{visit}",
                        "status": "finished",
                        "class": {"code": "AMB"},
                        "subject": who,
                        "period": {"end": f"2026-{1 + visit % 5:02}-{day:02}T08:{visit:02}:{second:02}Z"},
                    },
                )
            )
    chance.shuffle(lines)
    path.write_text("".join(lines))


def line(number: str, data: dict[str, object]) -> str:
    """One CloudEvent."""
    kind = f"org.example.{str(data['resourceType']).lower()}.v1"
    envelope = {"specversion": "1.0", "id": number, "source": "urn:epic", "type": kind}
    return (
        json.dumps({**envelope, "datacontenttype": "application/fhir+json", "data": data}, separators=(",", ":")) + "\n"
    )


def consent(patient: int, who: dict[str, object]) -> dict[str, object]:
    """A permit for both payload routes, or, for one patient in four, for another recipient."""
    recipient = "Organization/crm" if patient % 4 else "Organization/other"
    role = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRCP"}]}
    scope = {"coding": [{"system": "http://terminology.hl7.org/CodeSystem/consentscope", "code": "patient-privacy"}]}
    purposes = [{"system": "urn:limen:purpose", "code": code} for code in ("PATSUPPORT", "HCPVISIBLE")]
    rule = {"type": "permit", "actor": [{"role": role, "reference": {"reference": recipient}}], "purpose": purposes}
    return {
        "resourceType": "Consent",
        "id": f"{patient}",
        "status": "active",
        "scope": scope,
        "patient": who,
        "dateTime": "2025-12-01",
        "provision": rule,
    }


def copy(source: str, target: str) -> None:
    """The yardstick."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    with beam.Pipeline("FnApiRunner", options=PipelineOptions([])) as pipeline:
        _ = pipeline | "Read" >> beam.io.ReadFromText(source) | "Write" >> beam.io.WriteToText(target)


def one_route(folder: Path) -> Path:
    """The default policy with a single payload route."""
    from pipelines import policy

    target = folder / "one-route"
    if not target.exists():
        shutil.copytree(policy.default(), target)
        for route in (target / "routes").glob("*.yaml"):
            if route.stem != ONE_ROUTE:
                route.unlink()
    return target


def compare(folder: Path, events: int, rounds: int) -> None:
    """Measure the three commands in turn, and print medians and ratios."""
    source = folder / f"{events}.ndjson"
    make(source, events)
    out, state = folder / "out", folder / "state"
    limen = [sys.executable, "-m", "pipelines.cli", "run", "--input", str(source), "--output", str(out)]
    limen += ["--state", str(state), "--as-of", AS_OF, "--json"]
    commands = {
        "copy": [sys.executable, __file__, "--copy", str(source), str(folder / "copy")],
        "one route": [*limen, "--policy", str(one_route(folder))],
        "all routes": limen,
    }
    seconds: dict[str, list[float]] = {name: [] for name in commands}
    memory = dict.fromkeys(commands, 0)
    for _ in range(rounds):
        for name, command in commands.items():
            for leftover in (out, state):
                shutil.rmtree(leftover, ignore_errors=True)
            took, peak = timed(command)
            seconds[name].append(took)
            memory[name] = max(memory[name], peak)
    base = statistics.median(seconds["copy"])
    print(f"\n{events:,} events, {source.stat().st_size // events} bytes each, {rounds} rounds in turn")
    for name, took in seconds.items():
        median = statistics.median(took)
        print(
            f"  {name:<11} {median:7.2f} s  {median / events * 1e6:6.2f} µs/event  {median / base:5.2f} × copy  "
            f"{memory[name] / 1e6:5.2f} GB"
        )


def timed(command: list[str]) -> tuple[float, int]:
    """(processor seconds, largest resident kilobytes) of a command that must succeed."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)  # noqa: S603  our own words
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(process.stderr.read().decode() if process.stderr else "failed")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss


def stages(folder: Path, events: int) -> None:
    """Call each stage's function by hand on the same events, and print what it costs an event."""
    from pipelines import keys, policy
    from pipelines.inputs import find
    from pipelines.sinks import StagedLog
    from pipelines.sources import read, spans
    from pipelines.vault import VaultRef
    from schemas.instant import from_fhir
    from schemas.timeline import Moment
    from transforms import audit, decode, deidentify, timeline, tokenize
    from transforms.batch import Outcomes

    known = policy.load(policy.default())
    state = folder / "stages"
    keys.create(state)
    reference, horizon = keys.KeysetRef(str(state)), from_fhir(AS_OF)
    assert horizon is not None
    moment = Moment(horizon.time)
    source = folder / f"{events}.ndjson"
    shards = max(1, source.stat().st_size // 8_000_000)

    def spent(name: str, body: Callable[[], object]) -> object:
        started = time.process_time()
        result = body()
        print(f"  {name:<11} {(time.process_time() - started) / events * 1e6:6.2f} µs/event")
        return result

    def stage(dofn: object, batches: object) -> list[object]:
        dofn.setup()  # type: ignore[attr-defined]
        return [out for batch in batches for out in dofn.process(batch)]  # type: ignore[attr-defined]

    print(f"\nstages, all routes, {events:,} events, called by hand")
    blocks = spent("read", lambda: [b for span in spans(find([str(source)])) for b in read(span)])
    facts = spent("decode", lambda: stage(decode._Decode(known, reference, shards), blocks))
    grouped: dict[bytes, list[bytes]] = {}
    for one in facts:  # type: ignore[attr-defined]
        if isinstance(one, tuple):
            grouped.setdefault(one[0], []).append(one[1])
    decided = spent(
        "timeline",
        lambda: stage(timeline._Advance(known, moment, shards, None), grouped.items()),
    )
    allowed = [one for one in decided if isinstance(one, Outcomes)]  # type: ignore[attr-defined]
    others = [one.value for one in decided if not isinstance(one, Outcomes) and one.tag in ("suppressed", "set_aside")]  # type: ignore[attr-defined]
    drafts = spent("deidentify", lambda: stage(deidentify._Deidentify(known, horizon.time), allowed))
    crossings = spent("tokenize", lambda: stage(tokenize._Tokenize(known, VaultRef(str(state)), False), drafts))
    log = StagedLog(str(folder / "log"))
    spent("audit", lambda: stage(audit._Audit("allowed", known, moment, "run", reference, log), crossings))
    spent("audit rest", lambda: stage(audit._Audit("suppressed", known, moment, "run", reference, log), others))
    print(
        f"  largest resident memory of this process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB"
    )


if __name__ == "__main__":
    main()
