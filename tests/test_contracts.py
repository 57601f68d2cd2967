"""Contracts: what is published is what the types and the policy say, and what a run writes is of its contract."""

import copy
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from builders import UNFILTERED
from hospital_files import Said, command, decide, payloads
from jsonschema import Draft202012Validator

from pipelines import options
from pipelines.export import publish_contracts
from pipelines.run import run as do
from pipelines.simulated.simulate import simulate
from schemas import contract as contracts
from schemas.contract import contract, documents, file_name, published, retraction
from schemas.errors import ConfigurationError
from schemas.policy import Policy
from schemas.recipe import Action
from schemas.route import Route

PUBLISHED = Path(__file__).parent.parent / "docs/contracts"


def routes(policy: Policy) -> list[Route]:
    return [route for route in policy.routes if route.delivers == "payloads"]


def route(policy: Policy, name: str) -> Route:
    return next(one for one in policy.routes if one.route == name)


def changed(policy: Policy, name: str, change: Callable[[dict[str, Any]], object]) -> Policy:
    """The policy with one route changed, checked as if it were loaded."""
    document = policy.model_dump(mode="json", by_alias=True, exclude=UNFILTERED)
    change(next(one for one in document["routes"] if one["route"] == name))
    return Policy.model_validate(document)


def refused(payload: dict[str, Any], schema: dict[str, Any]) -> bool:
    return not Draft202012Validator(schema).is_valid(payload)


# --- the published files ------------------------------------------------------------------------------------------


def to_publish(name: str) -> str:
    return f"{name} is not published yet; publish it: limen contracts docs/contracts"


def test_what_is_published_is_what_the_policy_says(policy: Policy) -> None:
    for one in routes(policy):
        file = PUBLISHED / file_name(one)
        assert file.exists(), to_publish(file.name)
        assert file.read_bytes() == published(one, policy), f"step recipe_revision of {one.route}: its contract changed"
    assert {one: (PUBLISHED / one).read_bytes() for one in documents(policy)} == documents(policy)


def test_older_revisions_stay(policy: Policy) -> None:
    found = {path.name for path in PUBLISHED.iterdir()}
    for one in routes(policy):
        assert {f"{one.route}.v{n}.schema.json" for n in range(1, one.recipe_revision)} <= found
    assert {f"retraction.v{n}.schema.json" for n in range(1, contracts.RETRACTION_REVISION)} <= found
    assert all(re.fullmatch(r"[a-z0-9-]+\.v[1-9]\d*\.schema\.json", name) for name in found)


@pytest.mark.parametrize("file", sorted(PUBLISHED.iterdir()), ids=lambda path: path.name)
def test_a_contract_is_a_closed_json_schema(file: Path) -> None:
    schema = json.loads(file.read_bytes())
    assert schema["$schema"] == contracts.DRAFT
    Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is schema["properties"]["data"]["additionalProperties"] is False


def row(route: dict[str, Any], to: str) -> dict[str, Any]:
    found: dict[str, Any] = next(one for one in route["recipe"] if one["to"] == to)
    return found


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "another word": lambda route: row(route, "milestone")["values"].update(admitted="came-in"),
    "a field less": lambda route: route["recipe"].remove(row(route, "clinician_npi")),
    "a field that may be absent": lambda route: row(route, "milestone")["values"].pop("booked"),
    "another destination": lambda route: route["destination"].update(name="elsewhere"),
    "another purpose": lambda route: route.update(purpose="PATSUPPORT"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_published_contract_changes_only_with_a_step(
    policy: Policy, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    def stepped(one: dict[str, Any]) -> None:
        change(one)
        one["recipe_revision"] += 1

    names = publish_contracts(tmp_path, policy)
    before = {name: (tmp_path / name).read_bytes() for name in names}
    assert publish_contracts(tmp_path, policy) == []
    with pytest.raises(ConfigurationError, match="step recipe_revision"):
        publish_contracts(tmp_path, changed(policy, "hcp-notification", change))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    new = publish_contracts(tmp_path, changed(policy, "hcp-notification", stepped))
    assert new == [f"hcp-notification.v{route(policy, 'hcp-notification').recipe_revision + 1}.schema.json"]
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()


def test_the_contract_of_retractions_changes_only_with_a_step(
    policy: Policy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (tmp_path / name).read_bytes() for name in publish_contracts(tmp_path, policy)}
    assert "retraction.v2.schema.json" in before
    monkeypatch.setattr(contracts, "AFTER_REVOCATION", ("delete",))
    with pytest.raises(ConfigurationError, match="retraction.v2.schema.json was published otherwise; step"):
        publish_contracts(tmp_path, policy)
    monkeypatch.setattr(contracts, "RETRACTION_REVISION", 3)
    assert publish_contracts(tmp_path, policy) == ["retraction.v3.schema.json"]
    assert before.items() <= {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items()


def test_the_command_publishes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, policy: Policy
) -> None:
    def limen() -> Said:
        return command(capsys, monkeypatch, "contracts", tmp_path / "contracts")

    assert limen().code == 0
    names = {*(file_name(one) for one in routes(policy)), "retraction.v2.schema.json"}
    assert {path.name for path in (tmp_path / "contracts").iterdir()} == names
    assert "nothing new" in limen().out
    (tmp_path / "contracts" / file_name(routes(policy)[0])).write_bytes(b"{}")
    said = limen()
    assert (said.code, said.out) == (2, "")
    assert "step recipe_revision" in said.err
    (tmp_path / "a-file").write_bytes(b"")
    said = command(capsys, monkeypatch, "contracts", tmp_path / "a-file")
    assert said.code == 2 and said.err.startswith("limen: DIR: ") and "cannot be written" in said.err


# --- what a contract says -----------------------------------------------------------------------------------------


def test_a_contract_names_the_recipe_s_fields_and_no_others(policy: Policy) -> None:
    for one in routes(policy):
        outbound = {row.to for row in one.recipe if row.action is not Action.DROP}
        assert {"subject", "time", *contract(one, policy)["properties"]["data"]["properties"]} == outbound


def test_only_what_every_release_has_is_required(policy: Policy) -> None:
    def required(of: Policy) -> list[str]:
        fields: list[str] = contract(route(of, "hcp-notification"), of)["properties"]["data"]["required"]
        return fields

    assert "milestone" in required(policy)
    assert "clinician_npi" not in required(policy)
    assert "milestone" not in required(changed(policy, "hcp-notification", CHANGES["a field that may be absent"]))


@pytest.mark.parametrize("name", ["Payload", "Retraction"])
def test_an_attribute_without_a_word_is_found(policy: Policy, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    more = msgspec.defstruct(name, [("extra", str, "")], bases=(getattr(contracts, name),), kw_only=True)
    monkeypatch.setattr(contracts, name, more)
    with pytest.raises(ValueError, match="differ"):
        documents(policy)


# --- what a run writes --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The payloads of a simulated hospital."""
    folder = tmp_path_factory.mktemp("contracts")
    hospital = simulate(60, 10, 1, folder / "hospital")
    decide([hospital.feeds], folder / "out", folder / "state", hospital.as_of)
    return payloads(folder / "out")


def kind(line: dict[str, Any]) -> str:
    """What the `type` of a line says that it is, and nothing else of the line: all retractions are of one contract."""
    return re.sub(r"^limen\.[a-z0-9-]+\.retraction\.", "limen.retraction.", line["type"])


@pytest.fixture(scope="module")
def schemas() -> dict[str, dict[str, Any]]:
    """The published contracts, by the `type` of a line."""
    named = (re.fullmatch(r"(.*)\.v(\d+)\.schema\.json", path.name) for path in PUBLISHED.iterdir())
    return {f"limen.{one[1]}.v{one[2]}": json.loads((PUBLISHED / one[0]).read_bytes()) for one in named if one}


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of a ledger's runs over a simulated hospital."""
    folder = tmp_path_factory.mktemp("stream")
    for feeds, as_of in simulate(120, 8, 5, folder / "hospital", batches=3).batches:
        do(options.request([str(feeds)], folder / "out", folder / "state", None, as_of, [], folder / "ledger"))
    return payloads(folder / "out")


def test_every_line_is_of_its_contract_and_of_no_other(
    written: list[dict[str, Any]], stream: list[dict[str, Any]], schemas: dict[str, dict[str, Any]]
) -> None:
    validators = {name: Draft202012Validator(schema) for name, schema in schemas.items()}
    of: Counter[str] = Counter()
    for line in (*written, *stream):
        name = kind(line)
        assert name in validators, to_publish(f"the contract of {name}")
        errors = validators[name].iter_errors(line)
        assert [(list(error.path), error.validator) for error in errors] == []
        of[name] += 1
    assert of.total() > 300 and of["limen.retraction.v2"] > 10 and len(of) > 2
    for line in (*stream[:20], *[one for one in stream if "retracts" in one][:20]):
        assert [one for one, validator in validators.items() if validator.is_valid(line)] == [kind(line)]


def test_what_leaves_under_a_waiver_is_of_its_contract(policy: Policy, tmp_path: Path) -> None:
    """It refers to a consent where one grounds it, and to none where nobody asked for one."""
    terms = {
        "protocol": "P-1", "board": "IRB-1", "approved": "2025-01-01", "expires": "2027-01-01",
        "recipient": "Organization/crm", "elements": ["patient", "time", "kind", "npi"],
    }  # fmt: skip
    waived = changed(policy, "hcp-notification", lambda route: route.update(basis="irb-waiver", waiver=terms))
    hospital = simulate(60, 10, 1, tmp_path / "hospital")
    feeds, out = [str(hospital.feeds)], tmp_path / "out"
    do(options.request(feeds, out, tmp_path / "state", None, hospital.as_of, [])._replace(policy=waived))
    lines = [one for one in payloads(out) if one["dest"] == "crm" and "hcp-notification" in one["type"]]
    assert {bool(one["consentref"]) for one in lines} == {True, False}
    schema = contract(route(waived, "hcp-notification"), waived)
    assert not any(refused(line, schema) for line in lines)
    assert all(
        refused(one, contract(route(policy, "hcp-notification"), policy)) for one in lines if not one["consentref"]
    )


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "a what-if": lambda payload: payload.update(whatif=True),
    "a retraction": lambda payload: payload.update(retracts=1),
    "a field more": lambda payload: payload["data"].update(name="x"),
    "a required field less": lambda payload: payload["data"].pop("milestone"),
    "an attribute less": lambda payload: payload.pop("consentref"),
    "a word outside of the set": lambda payload: payload["data"].update(milestone="transferred"),
    "an NPI that is none": lambda payload: payload["data"].update(clinician_npi="3234567893"),
    "a time within the day": lambda payload: payload.update(time="2026-05-01T12:00:00Z"),
    "a day that is none": lambda payload: payload.update(time="2026-13-01T00:00:00Z"),
    "a subject that could be a name": lambda payload: payload.update(subject="Müller"),
    "digits in a record": lambda payload: payload.update(record="1" + payload["record"][1:]),
    "an empty consent reference": lambda payload: payload.update(consentref=""),
    "an id of another revision": lambda payload: payload.update(id=payload["id"].replace("-", "-9", 1)),
    "another level": lambda payload: payload.update(deidlevel="safe-harbor"),
    "another destination": lambda payload: payload.update(dest="elsewhere"),
    "another purpose": lambda payload: payload.update(purpose="HMARKT"),
    "a sequence from nought": lambda payload: payload.update(recordseq=0),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_what_is_not_promised_is_refused(
    written: list[dict[str, Any]], schemas: dict[str, dict[str, Any]], spoil: Callable[[dict[str, Any]], object]
) -> None:
    right = next(payload for payload in written if "clinician_npi" in payload["data"])
    wrong = copy.deepcopy(right)
    spoil(wrong)
    schema = schemas[kind(right)]
    assert wrong != right and not refused(right, schema)
    assert refused(wrong, schema)


TAKEN: dict[str, Callable[[dict[str, Any]], object]] = {
    "a what-if": lambda line: line.update(whatif=True),
    "a payload's id": lambda line: line.update(id=line["id"].removesuffix("-retraction")),
    "a cause": lambda line: line["data"].update(reason="denied"),
    "no rule": lambda line: line["data"].clear(),
    "a rule that no policy has": lambda line: line["data"].update(after_revocation="keep"),
    "a consent": lambda line: line.update(consentref=line["subject"]),
    "nothing that it takes back": lambda line: line.update(retracts=0),
    "no word of how far": lambda line: line.pop("retracts"),
    "a first line": lambda line: line.update(recordseq=1),
    "a level that no payload has": lambda line: line.update(deidlevel="aggregate"),
    "a time within the day": lambda line: line.update(time="2026-05-01T12:00:00Z"),
    "a subject that could be a name": lambda line: line.update(subject="Müller"),
}


@pytest.mark.parametrize("spoil", TAKEN.values(), ids=TAKEN)
def test_what_is_no_retraction_is_refused(
    stream: list[dict[str, Any]], spoil: Callable[[dict[str, Any]], object]
) -> None:
    right = next(line for line in stream if "retracts" in line)
    wrong = copy.deepcopy(right)
    spoil(wrong)
    assert wrong != right and not refused(right, retraction())
    assert refused(wrong, retraction())


@pytest.mark.parametrize("rule", ["delete", "freeze", "retain"])
def test_every_rule_of_a_policy_is_one_of_the_contract_s(
    policy: Policy, stream: list[dict[str, Any]], rule: str
) -> None:
    ruled = changed(policy, "hcp-notification", lambda route: route.update(after_revocation=rule))
    data = {"after_revocation": route(ruled, "hcp-notification").after_revocation}
    assert not refused({**next(line for line in stream if "retracts" in line), "data": data}, retraction())
