"""What the ledger costs, and how soon a revocation takes back what was released.

    python benchmarks/ledger.py [--patients 1000 10000 100000] [--events 50000]

For each number of patients: a ledger that knows them all is made by one run, and a run without messages settles what
falls due of it; then the events of a later day, of 5,000 patients at most, are decided with that ledger and without
one, in turn; without one the run is given the permits of these patients again, so that both release the same. The cost
ought to follow the batch and not the ledger. Seconds are processor seconds. Then a stream of hourly deliveries in which
patients revoke: for each retraction, how many messages were read after its revocation and how much event time passed.
"""

import argparse
import random
import shutil
import statistics
import sys
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

from boundary import consent, line, timed

BATCH = 5_000  # patients of whom something arrives in the measured run
START = datetime(2026, 3, 1, tzinfo=UTC)


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, nargs="+", default=[1_000, 10_000, 100_000])
    parser.add_argument("--events", type=int, default=50_000, help="in the measured run")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="limen-benchmark-") as folder:
        for patients in chosen.patients:
            compare(Path(folder) / str(patients), patients, chosen.events, chosen.rounds)
        reach(Path(folder) / "reach")


def compare(folder: Path, patients: int, events: int, rounds: int) -> None:
    """The same day with the ledger and without one."""
    folder.mkdir()
    first, second, alone = (folder / f"{name}.ndjson" for name in ("first", "second", "alone"))
    write(first, [permit(n) for n in range(patients)] + [discharge(n, "a", START) for n in range(patients)])
    chance = random.Random(patients)  # noqa: S311  not for secrets
    some = chance.sample(range(patients), min(patients, BATCH))
    next_day = START + timedelta(days=4)
    day = [discharge(some[n % len(some)], f"b{n}", next_day + timedelta(seconds=n)) for n in range(events)]
    write(second, day)
    write(alone, [permit(n) for n in some] + day)
    timed(limen(folder, first, START + timedelta(hours=6), ledger=True))
    (folder / "nothing").mkdir()
    timed(limen(folder, folder / "nothing", START + timedelta(days=3), ledger=True))
    for name in ("ledger", "out", "state"):
        shutil.copytree(folder / name, folder / f"{name}-kept")
    seconds: dict[bool, list[float]] = {True: [], False: []}
    for _ in range(rounds):
        for ledger in (True, False):
            for name in ("ledger", "out", "state"):
                shutil.rmtree(folder / name)
                if ledger or name == "state":
                    shutil.copytree(folder / f"{name}-kept", folder / name)
                else:
                    (folder / name).mkdir()
            source = second if ledger else alone
            seconds[ledger].append(timed(limen(folder, source, next_day + timedelta(hours=23), ledger=ledger))[0])
    with_it, without = statistics.median(seconds[True]), statistics.median(seconds[False])
    print(
        f"{patients:>9,} patients: {with_it / events * 1e6:6.1f} µs/event with the ledger, "
        f"{without / events * 1e6:6.1f} without, {with_it / without:4.2f} ×"
    )


def reach(folder: Path, patients: int = 2_000, hours: int = 6) -> None:
    """How soon a revocation reaches what was released."""
    folder.mkdir()
    chance = random.Random(1)  # noqa: S311  not for secrets
    messages, seconds = [], []
    revoking = [n for n in range(patients) if n % 4 and n % 5 == 0]
    for hour in range(hours):
        begins = START + timedelta(hours=hour)
        delivered: list[tuple[datetime, str]] = []
        for n in range(patients):
            moment = begins + timedelta(seconds=chance.randrange(3600))
            if hour == 0:
                delivered.append((begins, permit(n)))
            delivered.append((moment, discharge(n, str(hour), moment)))
        for n in revoking[hour :: hours - 1] if hour else ():
            moment = begins + timedelta(seconds=chance.randrange(3600))
            delivered.append((moment, permit(n, version=2, denied=moment)))
        delivered.sort()
        write(folder / f"{hour}.ndjson", [text for _, text in delivered])
        ends = begins + timedelta(hours=1)
        timed(limen(folder, folder / f"{hour}.ndjson", ends, ledger=True))
        for place, (moment, text) in enumerate(delivered):
            if '"deny"' in text:
                messages.append(len(delivered) - place - 1)
                seconds.append((ends - moment).total_seconds())
    taken = sum('"retracts"' in text for path in (folder / "out/crm").rglob("*.jsonl") for text in path.open())
    print(
        f"{len(messages):,} revocations in hourly deliveries took back {taken:,} records; until then "
        f"{statistics.median(messages):,.0f} messages and {statistics.median(seconds):,.0f} s of event time "
        f"(most {max(messages):,} and {max(seconds):,.0f} s: the rest of the delivery)"
    )


def limen(folder: Path, source: Path, as_of: datetime, *, ledger: bool) -> list[str]:
    """The command."""
    command = [sys.executable, "-m", "pipelines.cli", "run", "--input", str(source), "--output", str(folder / "out")]
    command += ["--state", str(folder / "state"), "--as-of", f"{as_of:%Y-%m-%dT%H:%M:%SZ}", "--json"]
    return [*command, "--ledger", str(folder / "ledger/ledger.sqlite")] if ledger else command


def who(patient: int) -> dict[str, object]:
    return {"identifier": {"system": "urn:id:GENERAL", "value": f"{10_000_000 + patient}"}}


def permit(patient: int, version: int = 1, denied: datetime | None = None) -> str:
    """A consent, or the version of it that refuses."""
    said = consent(patient, who(patient)) | {"meta": {"versionId": str(version)}}
    if denied is not None:
        said |= {"dateTime": f"{denied:%Y-%m-%dT%H:%M:%SZ}", "provision": {"type": "deny"}}
    return line(f"c{patient}-{version}", said)


def discharge(patient: int, name: str, at: datetime) -> str:
    visit = f"{patient}-{name}"
    encounter = {"resourceType": "Encounter", "id": visit, "status": "finished", "subject": who(patient)}
    return line(f"e{visit}", {**encounter, "period": {"end": f"{at:%Y-%m-%dT%H:%M:%SZ}"}})


def write(path: Path, lines: list[str]) -> None:
    path.write_text("".join(lines))


if __name__ == "__main__":
    main()
