"""The main job: parse, build, run. One bounded run from files to payloads, review items and evidence."""

import hashlib
import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam

from pipelines import keys, program
from pipelines.boundary import Boundary
from pipelines.ledger import LedgerRef, Run, SqlLedger, Standing, beside, consulted, create
from pipelines.options import Request
from pipelines.outputs import Outputs, held, holds, signed_by
from pipelines.progress import watched
from pipelines.sinks import Stage, StagedLog
from pipelines.sources import TICK, ReadBlocks, Span, spans
from pipelines.summary import counted
from pipelines.vault import FILE as VAULT
from pipelines.vault import VaultRef
from schemas.errors import ConfigurationError, LawBroken, SourceHeld, StoreError
from schemas.instant import FOREVER, text_of
from schemas.keyset import Keyset
from schemas.opaque import opaque
from schemas.outcome import Reason
from schemas.policy import Policy
from schemas.timeline import Moment, unpack_rows
from transforms.rules.records import scope_of

SHARD_BYTES = 8_000_000  # of input for each shard: what one worker holds at once stays small
_HELD = (
    "the source is held, nothing was published: consents whose patient cannot be read: {}; find them with limen feed "
    "check, send them again with their patient, or set unread_consent: alarm in policy.yaml"
)
DUE_BYTES = 500  # what a patient for whom something is due weighs as much as


class Done(NamedTuple):
    """What a run says at its end. `repeated`: it had happened already and was only verified."""

    summary: dict[str, Any]
    repeated: bool
    keys_made: bool


def run(request: Request) -> Done:
    """Do one run. Raises ConfigurationError before anything is written, LawBroken if the outputs do not add up."""
    started = time.monotonic()
    _quiet()
    run_id = _run_id(request)
    _same_keys(request, run_id)
    with consulted(request.ledger, request.state) as standing:
        looks_back = request.horizon < standing.horizon and run_id not in standing.runs
        _continues(request, run_id, standing, looks_back)
        committed = {} if looks_back else {name: one.manifest for name, one in standing.runs.items()}
        with held(request.output, run_id, committed, beside(request.ledger)) as outputs:
            keyset, made = keys.load_or_create(request.state)
            signed = outputs.claim(keyset)
            repeated = signed is not None
            facts = signed.facts if signed is not None else _do(request, outputs, keyset, standing, looks_back)
            if request.ledger and not looks_back:
                with _opened(request) as ledger:
                    ledger.published([run_id, *(n for n, one in standing.runs.items() if not one.published)])
            summary = {**facts, "seconds": round(time.monotonic() - started, 3)}
            outputs.summarise(summary)
            return Done(summary, repeated, made)


def _do(request: Request, outputs: Outputs, keyset: Keyset, standing: Standing, looks_back: bool) -> dict[str, Any]:
    decided_by = {"program": f"limen {program.VERSION}", "program_digest": program.source_digest()}
    pieces, size, moment = spans(request.inputs), sum(one.size for one in request.inputs), Moment(request.horizon)
    if request.ledger:
        # Under another policy everything that is shown is looked at again.
        due = request.horizon if standing.policy in ("", request.policy.digest) else FOREVER
        pieces, moment = [TICK, *pieces], Moment(request.horizon, standing.horizon, due)
        with _opened(request) as ledger:
            size += ledger.due(due) * DUE_BYTES
    shards = max(1, -(-size // SHARD_BYTES))
    with watched(outputs.staging / "counts", len(pieces) + 5 * shards):
        _pipeline(request, outputs, pieces, shards, moment)
    _unchanged(request)
    sums = counted(outputs.staging / "counts", request.policy, standing.held, shards if request.ledger else None)
    what_if = looks_back if request.ledger else request.explicit and sums.newest > request.horizon
    facts = {
        **sums.facts,
        "policy": request.policy.name,
        "policy_digest": request.policy.digest,
        "environment": request.policy.environment,
        "run": outputs.run,
        "as_of": text_of(request.horizon),
        **decided_by,
        "what_if": what_if,
    }
    if sums.broken:
        outputs.summarise({**facts, "unusable": sums.broken})
        raise LawBroken("; ".join(sums.broken))
    if request.policy.source.unread_consent == "hold" and (unread := facts["reasons"].get(Reason.CONSENT_OF_NOBODY)):
        outputs.summarise({**facts, "unusable": ["the source is held"]})
        raise SourceHeld(_HELD.format(unread))
    if what_if:
        _mark(outputs.staging / "crm")
    inputs = sorted(one.file for one in request.inputs)
    if request.ledger is None or looks_back:
        outputs.commit(keyset, inputs, facts)
        return facts
    with _opened(request) as ledger:
        rows = (unpack_rows(path.read_bytes()) for path in sorted((outputs.staging / "ledger").glob("*.rows")))
        run = Run(outputs.run, request.horizon, request.policy.digest, facts["held"], _records(request.policy))
        outputs.commit(keyset, inputs, facts, partial(ledger.commit, run, rows, len(standing.runs)))
        return facts


def _pipeline(request: Request, outputs: Outputs, pieces: list[Span], shards: int, moment: Moment) -> None:
    """The graph: blocks from the sources through the boundary to the staging folder."""
    staging, state = str(outputs.staging), str(request.state.absolute())
    boundary = Boundary(
        request.policy,
        moment,
        outputs.run,
        shards,
        keys=keys.KeysetRef(state),
        vault=VaultRef(state),
        log=StagedLog(staging),
        ledger=_ledger(request),
    )
    with beam.Pipeline(options=request.beam) as pipeline:
        out = pipeline | "Read" >> ReadBlocks(pieces) | "Boundary" >> boundary
        _ = out.crm | "ToCrm" >> Stage(staging, below="crm")
        _ = out.aggregates | "ToAggregates" >> Stage(staging, below="aggregates")
        _ = out.review | "ToReview" >> Stage(staging, below="review")
        _ = out.quarantine | "ToQuarantine" >> Stage(staging, below="quarantine")
        _ = out.kept | "ToLedger" >> Stage(f"{staging}/ledger", below="")
        for place, counts in enumerate(out.counts):
            _ = counts | f"ToCounts{place}" >> Stage(f"{staging}/counts", below="")


def _continues(request: Request, run: str, standing: Standing, looks_back: bool) -> None:
    """A ledger is taken up where it stands, and by nothing that would lose what it may have to take back."""
    if request.ledger is None:
        return
    if signed_by(request.output, run) and run not in standing.runs and not looks_back:
        raise ConfigurationError("--output", "the folder holds this run, decided without the ledger", "name a new one")
    if run in standing.runs and not holds(request.output, run):
        raise ConfigurationError("--output", "the ledger's run was published into another folder", "name that one")
    if not standing.runs:
        return
    if looks_back and not request.explicit:
        raise ConfigurationError("--as-of", f"the ledger stands at {text_of(standing.horizon)}", "name a later instant")
    if looks_back and any(holds(request.output, name) for name in standing.runs):
        problem = "an --as-of before the ledger's last run is a what-if, and the folder holds what was delivered"
        raise ConfigurationError("--output", problem, "name a new folder, or a later --as-of")
    elsewhere = [n for n, one in standing.runs.items() if not one.published and not holds(request.output, n)]
    if elsewhere:
        raise ConfigurationError("--ledger", "its last run is not published yet", "repeat it with its own --output")
    records = _records(request.policy)
    if lost := sorted(route for route, its in standing.routes.items() if records.get(route) != its):
        problem = f"route {lost[0]} of the ledger is missing or writes other records"
        raise ConfigurationError("--policy", problem, "keep the route as it was, with enabled: false")
    if not (request.state / VAULT).exists():  # a new one would name every patient anew, and could take nothing back
        raise ConfigurationError("--state", "the vault of the ledger's runs is gone", "restore it beside its keyset")


@contextmanager
def _opened(request: Request) -> Iterator[SqlLedger]:
    """The ledger, made where there is none."""
    reference = _ledger(request)
    assert reference is not None  # noqa: S101
    create(Path(reference.path))
    with closing(reference.open()) as ledger:
        yield ledger


def _ledger(request: Request) -> LedgerRef | None:
    path = request.ledger
    return LedgerRef(str(path.absolute()), str(request.state.absolute())) if path else None


def _records(policy: Policy) -> dict[str, str]:
    """What each route's CRM records are: whose, and by which token."""
    return {
        r.route: f"{r.delivers} {r.record} {scope_of(r.destination.name, r.purpose)}{' apart' if r.apart else ''}"
        for r in policy.routes
    }


def _same_keys(request: Request, run_id: str) -> None:
    """A run that happened can be repeated with its own keys alone; a vault belongs to its keyset."""
    state = request.state
    known = keys.load(state).keyid if (state / keys.KEYSET).exists() else ""
    if (signers := signed_by(request.output, run_id)) and known not in signers:
        raise ConfigurationError("--state", "the folder was written with other keys", "name the state of that run")
    if known and (state / VAULT).exists():
        try:
            VaultRef(str(state)).open().close()
        except StoreError as error:
            raise ConfigurationError("--state", str(error), "restore the vault of this keyset") from None


def _unchanged(request: Request) -> None:
    """What the manifest will name is what was read."""
    for one in request.inputs:
        if not one.unchanged():
            raise StoreError("an_input_changed_while_it_was_read")


def _run_id(request: Request) -> str:
    """Names a run by what it decides: the contents of its inputs, the policy and the horizon. Not by the program: what
    has happened is not done again by another version, which verifies it, and the manifest says which one decided."""
    whole = hashlib.sha256()
    for part in (*sorted(one.file for one in request.inputs), request.policy.digest, str(request.horizon)):
        whole.update(f"{len(part)}:{part}".encode())
    stamp = text_of(request.horizon).replace("-", "").replace(":", "")
    return f"{stamp}-{opaque(whole.digest()[:6])}"


def _mark(folder: Path) -> None:
    """A what-if is not deliverable: each of its payloads says so.

    That it is one is known when all has been read, and the lines are written by then. A line is a JSON object that the
    job wrote itself: the mark goes behind its first brace, for a sixtieth of what decoding it costs (3.6 µs).
    """
    for path in folder.rglob("*.jsonl"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line.replace(b"{", b'{"whatif":true,', 1) for line in lines))


def _quiet() -> None:
    """Beam's own chatter is not for the operator's terminal; warnings and our alarms are."""
    if logging.getLogger().level in (logging.NOTSET, logging.WARNING):
        logging.getLogger("apache_beam").setLevel(logging.ERROR)
