"""Deliveries to one ledger: a place to take them in, the messages of one patient, and what the ledger then holds."""

import json
import sqlite3
from pathlib import Path
from typing import Any

from hospital_files import by_identifier, lines, ndjson, permit

from pipelines import options
from pipelines.run import Done
from pipelines.run import run as do

WHO = by_identifier("urn:id:GENERAL", "4711")
SAID = {"dateTime": "2026-03-01T00:00:00Z"}


class Place:
    """One ledger, its state and its output folder; each delivery is a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state, self.output, self.ledger = folder / "state", folder / "out", folder / "ledger.sqlite"

    def deliver(self, name: str, *messages: dict[str, Any] | bytes) -> Path:
        feeds = self.folder / "feeds" / name
        feeds.mkdir(parents=True, exist_ok=True)
        ndjson(feeds / "a.ndjson", [one for one in messages if isinstance(one, dict)])
        if not (feeds / "a.ndjson").read_bytes():
            (feeds / "a.ndjson").unlink()
        if plain_messages := [one for one in messages if isinstance(one, bytes)]:
            (feeds / "b.hl7").write_bytes(b"".join(plain_messages))
        return feeds

    def request(self, feeds: Path, as_of: str | None, **changed: Any) -> options.Request:
        given = {"output": self.output, "state": self.state, "policy": None, "ledger": self.ledger, **changed}
        return options.request([str(feeds)], as_of=as_of, flags=[], **given)

    def run(self, as_of: str | None, *messages: dict[str, Any] | bytes, name: str = "", **changed: Any) -> Done:
        return do(self.request(self.deliver(name or str(as_of), *messages), as_of, **changed))

    def lines(self) -> list[dict[str, Any]]:
        """All lines for the CRM of one route, in the order of their runs."""
        return [json.loads(line) for line in lines(self.output, "crm/patient-support")]


def signed(name: str = "c1", version: int = 1, **changes: Any) -> dict[str, Any]:
    return permit(WHO, name, meta={"versionId": str(version)}, **{**SAID, **changes})


def refused(version: int, day: str) -> dict[str, Any]:
    return signed(version=version, dateTime=day, provision={"type": "deny"})


def discharge(name: str, end: str) -> dict[str, Any]:
    return {"resourceType": "Encounter", "id": name, "status": "finished", "subject": WHO, "period": {"end": end}}


def stored(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """The rows of a ledger, by table."""
    with sqlite3.connect(path) as database:
        return {
            name: sorted(database.execute(f"SELECT * FROM {name}").fetchall())
            for name in ("timelines", "runs", "routes", "standing")
        }
