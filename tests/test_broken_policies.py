"""Whatever is wrong with a policy: refused before anything is written, in one line that says what, not its value."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hospital_files import Desk

from pipelines import policy as policies
from schemas.errors import ConfigurationError

Spoil = Callable[[Path], None]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk.at(tmp_path, capsys, monkeypatch)


WAIVER = (
    "waiver: {protocol: P-1, board: IRB-1, approved: 2026-01-01, expires: 2027-01-01, recipient: Organization/crm,"
    " elements: [patient, time, kind, consent]}"
)


def edited(name: str, *changes: tuple[str, str]) -> Spoil:
    """Text of a file replaced by other text; each must be there."""

    def spoil(bundle: Path) -> None:
        text = (bundle / name).read_text()
        for old, new in changes:
            assert old in text
            text = text.replace(old, new, 1)
        (bundle / name).write_text(text)

    return spoil


def added(name: str, text: str) -> Spoil:
    def spoil(bundle: Path) -> None:
        (bundle / name).parent.mkdir(exist_ok=True)
        with (bundle / name).open("a") as file:
            file.write(text)

    return spoil


def removed(name: str) -> Spoil:
    return lambda bundle: (bundle / name).unlink()


SUPPORT, NOTIFY, LOOP = "routes/patient-support.yaml", "routes/hcp-notification.yaml", "routes/closed-loop.yaml"
DROP_VISIT = "{field: visit, action: drop}"
BROKEN: dict[str, tuple[Spoil, str]] = {
    "an unknown key in policy.yaml": (added("policy.yaml", "colour: blue\n"), "colour"),
    "an unknown key in a route": (added(SUPPORT, "colour: blue\n"), "colour"),
    "an unknown key in a row": (edited(SUPPORT, ("action: drop}", "action: drop, why: so}")), "why"),
    "an unknown file": (added("extra.yaml", "a: 1\n"), "extra.yaml"),
    "a route that is no YAML file": (added("routes/patient-support.yaml.bak", "a: 1\n"), "patient-support.yaml.bak"),
    "a missing file": (removed("fields.yaml"), "fields.yaml"),
    "no routes": (lambda bundle: shutil.rmtree(bundle / "routes"), "at least one route"),
    "broken YAML": (added("policy.yaml", "]: [\n"), "policy.yaml"),
    "a list for a mapping": (lambda bundle: (bundle / "policy.yaml").write_text("- 1\n") and None, "Field required"),
    "a YAML key that stands twice": (added("policy.yaml", "revision: 2\n"), "policy.yaml"),
    "a YAML key that stands twice deep down": (
        edited(SUPPORT, ("{admitted: admitted,", "{admitted: admitted, admitted: discharged,")),
        SUPPORT,
    ),
    "a YAML object of Python": (added("policy.yaml", "x: !!python/object/apply:os.getpid []\n"), "policy.yaml"),
    "an identifier that passes": (
        edited(SUPPORT, (DROP_VISIT, "{field: visit, action: keep, to: visit}")),
        "reaches only identified",
    ),
    "an identifier that passes for another name": (
        edited(SUPPORT, (DROP_VISIT, "{field: visit, action: year, to: visit}")),
        "reaches only identified",
    ),
    "the patient that passes": (
        edited(NOTIFY, ("{field: patient, action: token, to: subject}", "{field: patient, action: keep, to: subject}")),
        "reaches only identified",
    ),
    "an identifier that passes by a route that admits it": (
        edited(
            SUPPORT,
            (DROP_VISIT, "{field: visit, action: keep, to: visit}"),
            ("level: limited-data-set", "level: identified"),
        ),
        "lets an identifier of the patient pass",
    ),
    "a token for something else": (
        edited(NOTIFY, (DROP_VISIT, "{field: visit, action: token, to: visit}")),
        "a token stands for the patient",
    ),
    "a field that passes where nobody consumes it": (
        edited(SUPPORT, ("{field: npi, action: drop}", "{field: npi, action: keep, to: npi}")),
        "consumers in fields.yaml do not name it: npi",
    ),
    "an identifier in an aggregate": (
        edited(LOOP, (DROP_VISIT, "{field: visit, action: keep, to: visit}")),
        "reaches only identified",
    ),
    "a level that is not reached": (
        edited(SUPPORT, ("level: limited-data-set", "level: safe-harbor")),
        "reaches only limited-data-set",
    ),
    "a level that there is not": (edited(SUPPORT, ("level: limited-data-set", "level: quite-safe")), "level must be"),
    "a limited data set without its agreement": (
        edited(SUPPORT, ("data_use_agreement: DUA-EXAMPLE-1\n", "")),
        "data_use_agreement",
    ),
    "a recipe that reads an unknown field": (
        edited(SUPPORT, (DROP_VISIT, "{field: shoe_size, action: keep, to: shoe_size}")),
        "shoe_size",
    ),
    "two rows that write one field": (
        edited(SUPPORT, ("to: next_action", "to: milestone")),
        "write the same outbound field",
    ),
    "a payload without subject": (
        edited(SUPPORT, ("{field: patient, action: token, to: subject}", "{field: patient, action: drop}")),
        "subject",
    ),
    "an action that there is not": (edited(SUPPORT, ("action: token", "action: shuffle")), "recipe"),
    "a row that says what it may not": (
        edited("fields.yaml", ("identifies: not", "identifies: maybe")),
        "fields.yaml: kind.identifies: ",
    ),
    "a row of a recipe": (edited(SUPPORT, ("action: token", "action: shuffle")), f"{SUPPORT}: recipe.patient.action: "),
    "a row whose name is no word": (edited("fields.yaml", ("field: visit", "field: 7")), "fields.yaml: row "),
    "a field without classification": (edited("fields.yaml", ("- field: visit", "- field: visits")), "fields.yaml"),
    "a purpose that there is not": (edited(SUPPORT, ("purpose: PATSUPPORT", "purpose: WORLDPEACE")), "purpose"),
    "treatment as purpose": (edited(SUPPORT, ("purpose: PATSUPPORT", "purpose: TREAT")), "treatment"),
    "break-glass as purpose": (edited(SUPPORT, ("purpose: PATSUPPORT", "purpose: BTG")), "break-glass"),
    "payloads without authorization": (
        edited(SUPPORT, ("basis: authorization", "basis: de-identified")),
        "aggregates only",
    ),
    "an authorization without recipients": (
        edited(SUPPORT, ('recipients: ["Organization/crm", "urn:limen:organization|crm"]', "recipients: []")),
        "recipient",
    ),
    "a kind that there is not": (edited(SUPPORT, ("kinds: [admitted,", "kinds: [reborn,")), "kinds"),
    "two routes of one name": (edited(NOTIFY, ("route: hcp-notification", "route: patient-support")), "one name"),
    "cells that are too small": (edited("policy.yaml", ("smallest_cell: 11", "smallest_cell: 1")), "smallest_cell"),
    "the social security number as identity": (edited("policy.yaml", ("[MR,", "[SS,")), "social security"),
    "a zone that there is not": (edited("policy.yaml", ("zone: UTC  ", "zone: Atlantis/Capital  ")), "zone"),
    "a waiver without its terms": (edited(SUPPORT, ("basis: authorization", "basis: irb-waiver")), "states its waiver"),
    "a waiver beside an authorization": (
        edited(SUPPORT, ("basis: authorization", f"basis: authorization\n{WAIVER}")),
        "states its waiver",
    ),
    "a waiver for another recipient": (
        edited(SUPPORT, ("basis: authorization", f"basis: irb-waiver\n{WAIVER.replace('/crm', '/other')}")),
        "another recipient",
    ),
    "a waiver that does not name what passes": (
        edited(SUPPORT, ("basis: authorization", f"basis: irb-waiver\n{WAIVER.replace('time, ', '')}")),
        "elements pass that the waiver does not name: ",
    ),
    "a waiver that expires before it begins": (
        edited(SUPPORT, ("basis: authorization", f"basis: irb-waiver\n{WAIVER.replace('2027', '2025')}")),
        "expires after",
    ),
    "a form for a purpose that there is not": (
        edited("consent-forms.yaml", ("[PATSUPPORT, HCPVISIBLE]", "[WORLDPEACE]")),
        "unknown purposes: WORLDPEACE",
    ),
    "two forms of one code": (
        edited("consent-forms.yaml", ('"LIMEN|patient-support"', '"urn:limen:form|patient-support"')),
        "two forms of one code",
    ),
    "a word with NUL": (
        edited(SUPPORT, ("  name: crm", '  name: "cr\\0m"')),
        "patient-support.yaml holds a control character",
    ),
    "a word that moves the cursor": (
        edited("policy.yaml", ("jurisdiction: US", 'jurisdiction: "US\\e[2K"')),
        "policy.yaml holds a control character",
    ),
    "a key with a control character": (
        edited("policy.yaml", ("zone: UTC  ", '"zo\\x85ne": UTC  ')),
        "policy.yaml holds a control character",
    ),
    "a form without a system": (edited("consent-forms.yaml", ("LIMEN|patient", "LIMEN-patient")), "forms"),
    "no table of forms": (lambda bundle: (bundle / "consent-forms.yaml").unlink(), "consent-forms.yaml is missing"),
    "a profile that there is not": (
        edited("policy.yaml", ("consent_profile: root-is-rule", "consent_profile: whatever")),
        "consent_profile",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_policy(desk: Desk, name: str) -> None:
    spoil, said = BROKEN[name]
    shutil.copytree(policies.default(), desk.folder / "policy")
    spoil(desk.folder / "policy")
    line = desk.run("--policy", "policy")
    assert line.startswith("--policy: ")
    assert said in line


def test_the_policy_that_is_spoilt_above_is_sound_before(tmp_path: Path) -> None:
    shutil.copytree(policies.default(), tmp_path / "policy")
    assert policies.load(tmp_path / "policy").digest == policies.load(policies.default()).digest


def test_a_refusal_quotes_no_value(tmp_path: Path) -> None:
    """A bundle may hold what somebody pasted there by mistake."""
    shutil.copytree(policies.default(), tmp_path / "policy")
    content = yaml.safe_load((tmp_path / "policy/policy.yaml").read_text())
    content["revision"] = "Quillfeather 123-45-6789"
    (tmp_path / "policy/policy.yaml").write_text(yaml.safe_dump(content, default_flow_style=False))
    with pytest.raises(ConfigurationError) as refused:
        policies.load(tmp_path / "policy")
    assert "Quillfeather" not in str(refused.value)
    assert refused.value.__cause__ is None
