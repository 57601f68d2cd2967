"""The table of HL7 v2 triggers: complete, closed, as the page says; and what each row becomes when it is read."""

import re
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from pipelines import policy as policies
from schemas.errors import ConfigurationError, MessageError
from schemas.event import AnyFact, Identity, Kind, Made, Milestone, Person
from schemas.message import Format, Message
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.source import Source, TriggerName
from transforms.decode import reader
from transforms.rules.hl7_events import read
from transforms.rules.hl7_triggers import TRIGGERS, Means
from transforms.rules.reading import Reading

READING = Reading("ehr", "UTF-8", UTC, ("MR", ""))
PAGE = (Path(__file__).parent.parent / "docs/hl7.md").read_text()
ADT = {f"ADT^A{n:02}" for n in (*range(1, 19), *range(21, 56), *range(60, 63))}
SIU = {f"SIU^S{n}" for n in (*range(12, 18), 26)}
NAMES = [f"{code}^{letter}{n:02}" for code, letter in (("ADT", "A"), ("SIU", "S")) for n in range(100)]


def message(trigger: str, *, status: str = "", processing: str = "P", patient: str = "42^^^MAIN^MR") -> bytes:
    schedule = f"SCH|V7||||{'|' * 20}{status}" if trigger.startswith("SIU") else f"PV1|1|I{'|' * 17}V7"
    pid = f"PID|1||{patient}" if patient else "NTE|1"
    return f"MSH|^~\\&|EPIC|SITE|||20240501||{trigger}|M1|{processing}|2.5.1\r{schedule}\r{pid}\r".encode()


def only(body: bytes, reading: Reading = READING) -> AnyFact:
    (fact,) = read(body, reading)
    return fact


def refusal(body: bytes, reading: Reading) -> Reason:
    with pytest.raises(MessageError) as caught:
        read(body, reading)
    return caught.value.reason


# --- The table ----------------------------------------------------------------------------------------------------


def test_the_table_is_complete_and_closed() -> None:
    assert set(TRIGGERS) == ADT | SIU
    assert len(ADT) == 56 and len(SIU) == 7
    for name, (means, kinds) in TRIGGERS.items():
        assert len(kinds) == 1 if means is Means.MILESTONE else bool(kinds) == (means is Means.CANCELLATION), name


def test_what_design_requires() -> None:
    """DESIGN section 6, milestones; section 3, Identity and First copy wins."""
    required = {"ADT^A01": "admitted", "ADT^A03": "discharged", "ADT^A04": "registered", "SIU^S12": "booked"}
    assert {name: TRIGGERS[name] for name in required} == {
        name: (Means.MILESTONE, (Kind(kind),)) for name, kind in required.items()
    }
    merges = {f"ADT^A{n}" for n in (18, 24, 30, *range(34, 38), *range(39, 52))}
    assert {name for name, one in TRIGGERS.items() if one.means is Means.IDENTITY} == merges | {"ADT^A29"}


def test_every_milestone_can_be_taken_back() -> None:
    stated = {kind for means, kinds in TRIGGERS.values() if means is Means.MILESTONE for kind in kinds}
    taken_back = {kind for means, kinds in TRIGGERS.values() if means is Means.CANCELLATION for kind in kinds}
    assert stated == {Kind.ADMITTED, Kind.REGISTERED, Kind.DISCHARGED, Kind.BOOKED}
    assert stated <= taken_back


def section(heading: str) -> list[list[str]]:
    """The cells of the table under a heading of the page."""
    text = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def words(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_says_the_same() -> None:
    said = [(name, words(row[1]), words(row[2])) for row in section("Triggers") for name in words(row[0])]
    assert len(said) == len(TRIGGERS)
    assert {name: (means, kinds) for name, means, kinds in said} == {
        name: ([str(means)], [str(kind) for kind in kinds]) for name, (means, kinds) in TRIGGERS.items()
    }
    assert [words(row[0]) for row in section("The profile of a source")] == [[name] for name in Source.model_fields]


# --- What a message of each row becomes ---------------------------------------------------------------------------


@pytest.mark.parametrize("trigger", sorted(TRIGGERS))
def test_rows(trigger: str) -> None:
    means, kinds = TRIGGERS[trigger]
    fact, nobody = only(message(trigger)), message(trigger, patient="")
    assert fact.type == trigger
    match means:
        case Means.MILESTONE | Means.CANCELLATION:
            assert isinstance(fact, Milestone)
            assert (fact.kind, fact.cancels) == (kinds[0], () if means is Means.MILESTONE else kinds)
            assert (fact.visit, fact.time is not None) == ("V7", True)
            assert refusal(nobody, READING) is Reason.NO_PATIENT
        case Means.IDENTITY:
            assert isinstance(fact, Identity) and fact.counted
            assert refusal(nobody, READING) is Reason.NO_PATIENT
        case Means.DEMOGRAPHICS:
            assert isinstance(fact, Person) and fact.counted
            unknown = only(nobody)
            assert isinstance(unknown, Made)
            assert (unknown.verdict, unknown.reason) == (Verdict.CONTROL, Reason.DEMOGRAPHICS)
        case Means.NOTHING:
            assert isinstance(fact, Made) and fact == only(nobody)
            assert (fact.verdict, fact.reason, fact.patient) == (Verdict.UNROUTED, Reason.NO_ROUTE, "")


@pytest.mark.parametrize(
    "trigger", [name for name in NAMES if name not in TRIGGERS] + ["ACK^A01", "ORU^R01", "QRY^A19"]
)
def test_all_others_are_unrouted(trigger: str) -> None:
    fact = only(message(trigger))
    assert isinstance(fact, Made) and (fact.verdict, fact.reason) == (Verdict.UNROUTED, Reason.NO_ROUTE)


@pytest.mark.parametrize("trigger", ["SIU^S12", "SIU^S13", "SIU^S14"])
@pytest.mark.parametrize(
    "status, expected",
    [
        *((one, "booked") for one in ("", '""', "Booked", "Overbook", "SCHEDULED", "^Booked")),
        *(
            (one, "gone")
            for one in (
                "Cancelled",
                "CANCELED",
                "Dc",
                "Deleted",
                "Noshow",
                "No Show",
                "Cancelled^x^HL70278",
                "^Cancelled",
            )
        ),
        *((one, "nothing") for one in ("Pending", "Waitlist", "Blocked", "Started", "complete")),
    ],
)
def test_the_status_of_an_appointment_outweighs_the_trigger(trigger: str, status: str, expected: str) -> None:
    fact = only(message(trigger, status=status))
    if expected == "nothing":
        assert isinstance(fact, Made) and fact.verdict is Verdict.UNROUTED
    else:
        assert isinstance(fact, Milestone) and fact.kind is Kind.BOOKED
        assert fact.cancels == (() if expected == "booked" else (Kind.BOOKED, Kind.ATTENDED))


@pytest.mark.parametrize("trigger", ["SIU^S15", "SIU^S16", "SIU^S17", "SIU^S26"])
def test_no_status_makes_a_booking_of_a_cancellation(trigger: str) -> None:
    for status in ("", "Booked", "Pending", "Complete", "Cancelled"):
        fact = only(message(trigger, status=status))
        assert isinstance(fact, Milestone) and fact.cancels == (Kind.BOOKED, Kind.ATTENDED)


# --- Processing id ------------------------------------------------------------------------------------------------

IN_PRODUCTION = READING._replace(production=True)


@pytest.mark.parametrize("trigger", ["ADT^A01", "ADT^A11", "ADT^A40", "ADT^A08", "SIU^S12"])
@pytest.mark.parametrize("processing", ["T", "D", "", '""', "p", "PT", "X", "^P", "&P"])
def test_production_takes_production_only(trigger: str, processing: str) -> None:
    assert refusal(message(trigger, processing=processing), IN_PRODUCTION) is Reason.WRONG_ENVIRONMENT
    assert only(message(trigger, processing=processing)) == only(message(trigger))
    for mode in ("P", "P^T"):
        assert only(message(trigger, processing=mode), IN_PRODUCTION) == only(message(trigger))


def test_the_type_is_judged_before_the_environment_and_the_environment_before_the_patient() -> None:
    for trigger in ("ADT^A02", "ORU^R01"):
        assert only(message(trigger, processing="T"), IN_PRODUCTION) == only(message(trigger))
    assert refusal(message("ADT^A01", processing="T", patient=""), IN_PRODUCTION) is Reason.WRONG_ENVIRONMENT


# --- The profile of a source --------------------------------------------------------------------------------------


def test_a_trigger_that_the_source_does_not_take_is_unrouted_but_what_tightens_counts() -> None:
    chosen = READING._replace(triggers=frozenset({"ADT^A03"}))
    for trigger, (means, _) in TRIGGERS.items():
        fact = only(message(trigger), chosen)
        if trigger == "ADT^A03" or means in (Means.CANCELLATION, Means.IDENTITY):
            assert fact == only(message(trigger)), trigger
        else:
            assert isinstance(fact, Made) and fact.verdict is Verdict.UNROUTED, trigger
    gone = only(message("SIU^S12", status="Cancelled"), chosen)
    assert isinstance(gone, Milestone) and gone.cancels
    none = READING._replace(triggers=frozenset())
    assert isinstance(only(message("ADT^A03"), none), Made)


def test_the_policy_names_triggers_of_the_table_and_no_others() -> None:
    adapter = TypeAdapter(TriggerName)

    def loads(name: str) -> bool:
        try:
            adapter.validate_python(name)
        except ValidationError:
            return False
        return True

    assert {name for name in [*NAMES, "A01", "ADT^A01\n", "ADT^A0", "ADT^A011", "adt^a01", ""] if loads(name)} == set(
        TRIGGERS
    )


def with_source(folder: Path, environment: str = "test", **changed: Any) -> Path:
    """A copy of the default policy with another source profile."""
    for path in policies.default().rglob("*.yaml"):
        copy = folder / path.relative_to(policies.default())
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    tree = yaml.safe_load((folder / "policy.yaml").read_text())
    tree["source"] |= changed
    tree["environment"] = environment
    (folder / "policy.yaml").write_text(yaml.safe_dump(tree))
    return folder


def decoded(policy: Policy, body: bytes) -> AnyFact | Reason | None:
    """What the job's reader makes of a message: its fact, or why it is rejected."""
    (counted,) = reader(policy).read(Format.HL7, Message(body, 0))
    return counted.facts[0] if counted.facts else counted.reason


def test_the_profile_reaches_the_reader(tmp_path: Path) -> None:
    profile = {"charset": "8859/1", "zone": "America/New_York", "identity_types": ["PI"], "triggers": ["ADT^A03"]}
    policy = policies.load(with_source(tmp_path, "production", **profile))
    body = message("ADT^A03", patient="7^^^MAIN^MR~4ä^^^MAIN^PI").decode().encode("latin-1")
    fact = decoded(policy, body)
    assert isinstance(fact, Milestone) and fact.patient == "urn:id:MAIN\x1f4ä"
    utc = only(message("ADT^A03"))
    assert isinstance(utc, Milestone) and fact.time is not None and utc.time is not None
    assert fact.time - utc.time == 4 * 3600 * 1_000_000
    assert decoded(policy, body.replace(b"|P|", b"|T|")) is Reason.WRONG_ENVIRONMENT
    unrouted = decoded(policy, body.replace(b"A03", b"A01"))
    assert isinstance(unrouted, Made) and unrouted.verdict is Verdict.UNROUTED


def test_without_a_profile_the_policy_decides(policy: Policy) -> None:
    assert (policy.environment, policy.source.triggers, policy.source.identity_types) == ("test", None, None)
    assert policy.identity_types == policy.identity.types
    assert isinstance(decoded(policy, message("ADT^A01", processing="T")), Milestone)


@pytest.mark.parametrize(
    "changed, said",
    [
        pytest.param({"charset": "KLINGON"}, "unknown character set", id="charset"),
        pytest.param({"charset": ""}, "unknown character set", id="no charset"),
        pytest.param({"zone": "Mars/Olympus"}, "unknown time zone", id="zone"),
        pytest.param({"triggers": ["ADT^A20"]}, "source.triggers.0", id="trigger outside of the table"),
        pytest.param({"triggers": ["A01"]}, "source.triggers.0", id="trigger without a code"),
        pytest.param({"identity_types": ["MR", "SS"]}, "social security", id="social security number"),
        pytest.param({"identity_types": []}, "at least one", id="no type"),
    ],
)
def test_a_profile_that_makes_no_sense_does_not_load(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        policies.load(with_source(tmp_path, **changed))
