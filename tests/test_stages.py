"""Each stage alone, on a stream of a few elements and with stores in memory."""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import apache_beam as beam
import msgspec
import pyarrow as pa
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from builders import PATIENT, a_consent, a_milestone, at
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from schemas.event import AnyFact, Kind, Made, Milestone, digest, encode
from schemas.instant import DAY, text_of
from schemas.keyset import Keyset
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.route import Route
from schemas.seal import REVIEW_INFO, unseal
from schemas.timeline import Moment, Outcome
from transforms.audit import Audit
from transforms.batch import Crossings, Drafts, Outcomes
from transforms.deidentify import Deidentify
from transforms.timeline import Timeline
from transforms.tokenize import Tokenize

HORIZON = at(24 * 40)
SHARD, OTHER_SHARD = b"\0\0\0\0", b"\0\0\0\1"
BOTH = ("PATSUPPORT", "HCPVISIBLE")
OTHER = "urn:id:MRN\x1f2"
VISIT = "VISIT-4711"
NPI = "1245319599"
REVIEWER = X25519PrivateKey.from_private_bytes(b"\x07" * 32)

# --- stores in memory, and what happened in which order -----------------------------------------------------------

HAPPENED: list[tuple[str, Any]] = []  # one list for stores and outputs alike: the stages run in this process


class Keys:
    """A keyset that is the same for ever."""

    def open(self) -> Keyset:
        return Keyset(1, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32, REVIEWER.public_key().public_bytes_raw())


class Vault:
    """Record keys that count up, remembered for ever."""

    known: dict[tuple[str, str], bytes] = {}  # noqa: RUF012  shared by all workers, as a database is

    def open(self) -> "Vault":
        return self

    def records(self, scope: str, patients: Sequence[str], *, revive: bool = False) -> list[bytes]:  # noqa: ARG002
        HAPPENED.append(("vault", (scope, list(patients))))
        return [self.known.setdefault((scope, one), len(self.known).to_bytes(16, "big")) for one in patients]

    def close(self) -> None:
        pass


class Log:
    """An audit log that remembers, or that fails."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails

    def open(self) -> "Log":
        return self

    def append(self, segment: str, records: pa.Table) -> None:
        if self._fails:
            raise OSError("the disk is full")
        HAPPENED.append((segment, records.to_pylist()))


def noted(element: Any, name: str) -> None:
    HAPPENED.append((name, element))


def run(elements: list[Any], stage: beam.PTransform, names: Sequence[str] = ()) -> dict[str, list[Any]]:
    """What comes out of a stage: by the name of each output, or all of it under "out"."""
    HAPPENED.clear()
    with beam.Pipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        out = pipeline | "Elements" >> beam.Create(elements) | "Stage" >> stage
        for name in names or ("out",):
            _ = (getattr(out, name) if names else out) | name >> beam.Map(noted, name)
    found: dict[str, list[Any]] = defaultdict(list)
    for name, element in HAPPENED:
        found[name].append(element)
    return found


def items(batches: list[Any]) -> list[Any]:
    return [item for batch in batches for item in batch.items]


def visit(patient: str = PATIENT, hours: float = 5, **changes: Any) -> Milestone:
    """A visit whose every value can be told from others."""
    made = a_milestone(at(hours), visit=VISIT)
    content = digest(patient, str(hours), str(changes))
    return msgspec.structs.replace(
        made, patient=patient, values={**made.values, "npi": NPI}, key=content, what=content[:16], **changes
    )


def taking(policy: Policy) -> list[Route]:
    """The routes that take an admission."""
    return [route for route in policy.routes if Kind.ADMITTED in route.kinds]


def released(route: str, event: Milestone, **changes: Any) -> Outcome:
    made = Outcome(event, route, Verdict.RELEASED, Reason.PERMITTED, (a_consent(purposes=BOTH),), 0, 1)
    return msgspec.structs.replace(made, **changes)


# --- Timeline -----------------------------------------------------------------------------------------------------

WAYS = ("allowed", "suppressed", "review", "set_aside", "counts", "kept")


def test_timeline_sends_each_fact_one_way(policy: Policy) -> None:
    first, second = visit(), visit(hours=30)
    unclear = msgspec.structs.replace(visit(OTHER), time=None)
    reject = Made(b"r" * 32, "", "", Verdict.REJECTED, Reason.MALFORMED, b"sealed")
    facts: list[AnyFact] = [first, a_consent(purposes=BOTH), first, reject]
    found = run(
        [(SHARD, encode(facts)), (SHARD, encode([second, reject])), (OTHER_SHARD, encode([unclear]))],
        Timeline(policy, Moment(HORIZON), 2, None),
        WAYS,
    )

    def came(way: str) -> set[tuple[str, str, Verdict, Reason]]:
        rows = [(o.route, o.event.patient, o.verdict, o.reason) for o in items(found[way])]
        assert len(rows) == len(items(found[way]))
        return set(rows)

    permitted, plain = (Verdict.RELEASED, Reason.PERMITTED), (Verdict.RELEASED, Reason.NO_CONSENT_NEEDED)
    assert came("allowed") == {
        ("hcp-notification", PATIENT, *permitted), ("patient-support", PATIENT, *permitted),
        ("closed-loop", PATIENT, *plain), ("operations", PATIENT, *plain),
    }  # fmt: skip
    # One visit and kind, one record: the earlier milestone is superseded on every route.
    assert came("suppressed") == {(r.route, PATIENT, Verdict.SUPPRESSED, Reason.SUPERSEDED) for r in taking(policy)}
    assert came("review") == {(r.route, OTHER, Verdict.REVIEW, Reason.NO_TIME) for r in taking(policy)}
    assert sorted((o.verdict, o.reason, o.copy) for o in items(found["set_aside"])) == [
        ("consent", "recorded", 0), ("rejected", "malformed", 0), ("rejected", "malformed", 1),
        ("repeated", "same_message", 1),
    ]  # fmt: skip
    counts = [json.loads(content) for _, content in found["counts"]]
    assert sorted((one["events_routed"], one["pairs"]) for one in counts) == [(1, 4), (2, 8)]
    for way in WAYS[:4]:
        assert sorted(batch.shard for batch in found[way]) == [SHARD, OTHER_SHARD]  # one batch for each shard


# --- Deidentify ---------------------------------------------------------------------------------------------------


def test_deidentify_lets_through_what_the_recipe_says(policy: Policy) -> None:
    event = visit()
    outcomes = [released(route.route, event) for route in taking(policy)]
    found = run([Outcomes(SHARD, outcomes)], Deidentify(policy, HORIZON))
    (batch,) = found["out"]
    assert isinstance(batch, Drafts)
    assert event.time is not None
    day = text_of(event.time)[:10]
    cell = {"day": day, "milestone": "admitted", "service_class": "inpatient"}
    assert {draft.entries.route: [dict(made.values) for made in draft.made] for draft in batch.items} == {
        "patient-support": [{
            "time": day, "milestone": "admitted", "next_action": "wait",
            "consent_state": "support-hcp-visible", "outreach": "eligible",
        }],
        "hcp-notification": [{"time": day, "milestone": "admitted", "clinician_npi": NPI}],
        "closed-loop": [cell],
        "operations": [cell],
    }  # fmt: skip
    for draft in batch.items:
        said = repr((draft.made, draft.entries, draft))
        assert not any(secret in said for secret in (PATIENT, VISIT, "\\x1f", text_of(event.time)[11:19]))
        assert [its.consents for its in draft.entries.alike] == [(a_consent(purposes=BOTH).what,)]
        (made,) = draft.made
        for field in ("patient", "visit"):
            assert f"{field}:drop" in made.fates or f"{field}:token>subject" in made.fates
        assert json.loads(made.data) == {name: value for name, value in made.values.items() if name != "time"}


# --- Tokenize -----------------------------------------------------------------------------------------------------


def test_tokenize_ends_the_patient(policy: Policy) -> None:
    events = [visit(), visit(hours=50, visit="VISIT-2"), visit(OTHER)]
    outcomes = [released(route.route, event) for event in events for route in taking(policy)]
    drafts = run([Outcomes(SHARD, outcomes)], Deidentify(policy, HORIZON))["out"]
    found = run(drafts, Tokenize(policy, Vault()))
    (batch,) = found["out"]
    assert isinstance(batch, Crossings)
    # One question for each payload route, in an order of its own; aggregates ask nothing.
    assert sorted(found["vault"]) == [("crm|HCPVISIBLE", [PATIENT, OTHER]), ("crm|PATSUPPORT", [PATIENT, OTHER])]
    by_route = {one.entries.route: one for one in batch.items}
    support, task = by_route["patient-support"], by_route["hcp-notification"]
    assert [support.records[0] == record for record in support.records] == [True, True, False]  # one record a patient
    assert len(set(task.records)) == 3  # one a visit and kind
    assert [task.subjects[0] == subject for subject in task.subjects] == [True, True, False]
    assert set(support.subjects).isdisjoint(task.subjects)
    for one, scope in ((support, "crm|PATSUPPORT"), (task, "crm|HCPVISIBLE")):
        assert Vault.known[scope, PATIENT].hex() not in repr(one)
        assert not any(secret in repr(one) for secret in (PATIENT, VISIT, "VISIT-2", "\\x1f"))
        assert not hasattr(one, "patients")
    for route in ("closed-loop", "operations"):
        assert (by_route[route].subjects, by_route[route].records) == ([], [])


def test_tokenize_counts_a_patient_once_in_a_cell(policy: Policy) -> None:
    events = [visit(), visit(hours=6, visit="V2"), visit(OTHER), visit(hours=6, visit="V3", kind=Kind.BOOKED)]
    drafts = run([Outcomes(SHARD, [released("closed-loop", one) for one in events])], Deidentify(policy, HORIZON))[
        "out"
    ]
    (batch,) = run(drafts, Tokenize(policy, Vault()))["out"]
    (one,) = batch.items
    assert {json.loads(cell)[1]: patients for cell, patients in one.cells.items()} == {"admitted": 2, "booked": 1}


# --- Audit --------------------------------------------------------------------------------------------------------

EFFECTS = ("effects", "cells", "counts")
RUN = "20260101T000000Z-run"


def crossings(policy: Policy, *events: Milestone) -> list[Any]:
    outcomes = [released(route.route, event) for event in events for route in taking(policy)]
    drafts = run([Outcomes(SHARD, outcomes)], Deidentify(policy, HORIZON))["out"]
    return run(drafts, Tokenize(policy, Vault()))["out"]


def audited(policy: Policy, branch: str, batches: list[Any], *, fails: bool = False) -> dict[str, list[Any]]:
    return run(batches, Audit(branch, policy, Moment(HORIZON), RUN, Keys(), Log(fails=fails)), EFFECTS)


def test_audit_records_releases_before_they_leave(policy: Policy) -> None:
    found = audited(policy, "allowed", crossings(policy, visit(), visit(OTHER)))
    segment = f"{RUN}-00000000-allowed"
    assert HAPPENED[0][0] == segment  # durable before anything comes out
    (rows,) = found[segment]
    assert len(rows) == 8 == len({row["record"] for row in rows})
    effects = dict(found["effects"])
    assert set(effects) == {f"crm/{route}/{RUN}-00000000.jsonl" for route in ("patient-support", "hcp-notification")}
    sent = [json.loads(line) for content in effects.values() for line in content.splitlines()]
    assert {payload["id"] for payload in sent} == {row["payload"] for row in rows} - {""}
    assert {(p["correlationid"], p["record"]) for p in sent} == {
        (row["correlationid"], row["crm_record"]) for row in rows if row["payload"]
    }
    assert {row["horizon"].isoformat() for row in rows} == {text_of(HORIZON).replace("Z", "+00:00")}
    (_, cells), (_, same) = sorted(found["cells"])
    ((cell, patients),) = json.loads(cells)
    assert (json.loads(cell), patients, same) == (["2024-10-04", "admitted", "inpatient"], 2, cells)
    (counts,) = [json.loads(content) for _, content in found["counts"]]
    assert sum(n for *_, n in counts["outcomes"]) == 8
    text = repr([rows, effects, cells, counts])
    assert not any(secret in text for secret in (PATIENT, OTHER, VISIT, "\\x1f"))


@pytest.mark.parametrize("branch", ["allowed", "suppressed", "review", "set_aside"])
def test_without_a_record_no_effect(policy: Policy, branch: str) -> None:
    """A log that fails stops the stage: nothing comes out, not even a count."""
    made = Made(b"r" * 32, "", "", Verdict.REJECTED, Reason.MALFORMED, b"sealed")
    batches = {
        "allowed": lambda: crossings(policy, visit()),
        "suppressed": lambda: [suppressed(policy, Verdict.SUPPRESSED, Reason.NO_CONSENT)],
        "review": lambda: [suppressed(policy, Verdict.REVIEW, Reason.CONSENT_UNCLEAR)],
        "set_aside": lambda: [Outcomes(SHARD, [Outcome(made, "", made.verdict, made.reason)])],
    }[branch]()
    with pytest.raises(Exception, match="defect_in_audit_OSError"):
        audited(policy, branch, batches, fails=True)
    assert HAPPENED == []
    assert {name for name in audited(policy, branch, batches) if name in EFFECTS} >= {"counts"}  # and one that works


def suppressed(policy: Policy, verdict: Verdict, reason: Reason) -> Outcomes:
    return Outcomes(SHARD, [Outcome(visit(), route.route, verdict, reason) for route in taking(policy)])


def test_audit_lets_nothing_out_of_what_is_suppressed(policy: Policy) -> None:
    found = audited(policy, "suppressed", [suppressed(policy, Verdict.SUPPRESSED, Reason.NO_CONSENT)])
    assert (found["effects"], found["cells"]) == ([], [])
    (rows,) = found[f"{RUN}-00000000-suppressed"]
    assert sorted(row["route"] for row in rows) == sorted(route.route for route in taking(policy))
    assert {(row["verdict"], row["reason"], row["payload"], row["crm_record"]) for row in rows} == {
        ("suppressed", "no_consent", "", "")
    }


def test_audit_gives_reviewers_an_item_that_they_alone_can_open(policy: Policy) -> None:
    found = audited(policy, "review", [suppressed(policy, Verdict.REVIEW, Reason.CONSENT_UNCLEAR)])
    ((name, content),) = found["effects"]
    assert name == f"review/{RUN}-00000000.jsonl"
    found_items = [json.loads(line) for line in content.splitlines()]
    assert [item["id"] for item in found_items] == sorted({item["id"] for item in found_items})
    assert {item["route"] for item in found_items} == {route.route for route in taking(policy)}
    for item in found_items:
        assert (item["reason"], item["event"], item["age_days"]) == ("consent_unclear", "admitted", 39)
        assert item["deadline"] == text_of(HORIZON + policy.review.deadline_days * DAY)
        plain = {name: value for name, value in item.items() if name != "subject"}
        assert not any(secret in repr(plain) for secret in (PATIENT, VISIT, NPI))
        sealed = msgspec.json.decode(json.dumps(item["subject"]), type=bytes)
        assert VISIT.encode() not in sealed
        assert VISIT.encode() in unseal(sealed, b"\x07" * 32, REVIEW_INFO)


def test_audit_passes_sealed_messages_on_once(policy: Policy) -> None:
    made = Made(b"r" * 32, "", "", Verdict.REJECTED, Reason.MALFORMED, b"sealed")
    unrouted = Made(b"u" * 32, "", "ORU^R01", Verdict.UNROUTED, Reason.NO_ROUTE)
    outcomes = [Outcome(made, "", made.verdict, made.reason, (), copy) for copy in range(2)]
    outcomes.append(Outcome(unrouted, "", unrouted.verdict, unrouted.reason))
    found = audited(policy, "set_aside", [Outcomes(SHARD, outcomes)])
    ((name, content),) = found["effects"]
    assert name.startswith("quarantine/")
    assert name.endswith(".sealed")
    assert content == b"sealed"
    (rows,) = found[f"{RUN}-00000000-set_aside"]
    assert len({row["record"] for row in rows}) == 3


def test_audit_of_nothing_is_nothing(policy: Policy) -> None:
    assert audited(policy, "allowed", [Crossings(SHARD, [])]) == {}


def test_the_same_batch_again_is_the_same_in_bytes(policy: Policy) -> None:
    """A runner may do a bundle twice."""
    batches: Callable[[], list[Any]] = lambda: crossings(policy, visit(), visit(OTHER))  # noqa: E731
    first, second = audited(policy, "allowed", batches()), audited(policy, "allowed", batches())
    assert first == second
