"""The synthetic hospital: the same twice, conserved, and a truth that the feeds bear out when read by other means."""

import ast
import base64
import gzip
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import pytest

from pipelines.simulated import feeds
from pipelines.simulated.chart import Fate
from pipelines.simulated.hospital import START, Hospital, luhn_digit
from pipelines.simulated.interface_engine import ARCHIVE, FRAMINGS
from pipelines.simulated.malformed import DEFECTS
from pipelines.simulated.personas import BOTH, PERSONAS, RETIRED
from pipelines.simulated.simulate import Simulated, simulate
from pipelines.simulated.truth import CRM, GAP, ROUTES, expected
from schemas.errors import ConfigurationError


class Written(NamedTuple):
    simulated: Simulated
    truth: dict[str, Any]
    texts: dict[str, str]  # name of a feed → what it holds, unpacked, line ends made one


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    simulated = simulate(400, 30, 7, tmp_path_factory.mktemp("simulated"))
    return Written(simulated, json.loads(simulated.truth.read_text("utf-8")), texts_of(simulated.feeds))


def texts_of(folder: Path) -> dict[str, str]:
    texts = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        name = str(path.relative_to(folder)).removesuffix(".gz")
        texts[name] = re.sub(r"\r\n?", "\n", content.decode("utf-8", "replace"))
    return texts


def hl7_messages(texts: dict[str, str]) -> Iterator[dict[str, list[str]]]:
    """Each HL7 message as its segments' fields; MSH-n stands at n - 1."""
    for name, text in texts.items():
        if name.endswith(".hl7"):
            for message in re.split(r"(?m)^\x0b?(?=MSH\|)", text)[1:]:
                yield {line.split("|")[0]: line.split("|") for line in message.splitlines() if "|" in line}


def trigger_of(message: dict[str, list[str]]) -> str:
    """A01 …; "" of a message whose header is broken."""
    return "".join(message["MSH"][8:9]).partition("^")[2][:3]


def patient_and_visit(message: dict[str, list[str]]) -> tuple[str, str]:
    schedule = message.get("SCH")
    visit = schedule[1] or schedule[2] if schedule else message.get("PV1", [""])[-1]
    return message["PID"][3].split("^")[0], visit.split("^")[0]


def resources(texts: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Each readable FHIR resource, also those within CloudEvents."""
    for name, text in texts.items():
        for line in text.splitlines() if name.endswith(".ndjson") else []:
            try:
                document = json.loads(line)
            except ValueError:
                continue
            found = document.get("data", document)
            if isinstance(found, dict):
                yield found


def consents(texts: dict[str, str]) -> dict[str, list[dict[str, Any]]]:
    by_patient = defaultdict(list)
    for resource in resources(texts):
        if resource["resourceType"] == "Consent":
            by_patient[resource["patient"]["identifier"]["value"]].append(resource)
    return by_patient


def purposes(provision: dict[str, Any]) -> set[str]:
    return {coding["code"] for coding in provision["purpose"]}


def by_form(consent: dict[str, Any]) -> bool:
    """Does it name the form that the default policy knows, and none of its criteria?"""
    codes = [
        coding
        for concept in (*consent["category"], consent.get("policyRule", {"coding": []}))
        for coding in concept["coding"]
    ]
    return "provision" not in consent and {"system": "urn:limen:form", "code": "patient-support"} in codes


def signed_segments(texts: dict[str, str]) -> dict[str, list[list[str]]]:
    """Each patient's CON segments."""
    by_patient = defaultdict(list)
    for message in hl7_messages(texts):
        if "CON" in message:
            by_patient[message["PID"][3].split("^")[0]].append(message["CON"])
    return by_patient


def substance_use(texts: dict[str, str]) -> set[str]:
    """The numbers of the visits that some message marks as of substance use."""
    lines = [line for name, text in texts.items() if name.endswith(".ndjson") for line in text.splitlines()]
    wrapped = [
        base64.b64decode(data).decode("utf-8", "replace")
        for data in re.findall(r'"data_base64":"(.*?)"', "\n".join(lines))
    ]
    messages = [
        *hl7_messages(texts),
        *hl7_messages({f"{n}.hl7": re.sub(r"\r", "\n", one) for n, one in enumerate(wrapped)}),
    ]
    found = {
        patient_and_visit(one)[1] for one in messages if "DG1" in one or {"DETOX^12^A", "SUD"} & set(one.get("PV1", []))
    }
    marked = [one for one in resources(texts) if re.search('"code": "(ETH|DETOX)"', json.dumps(one))]
    return found | {one["identifier"][0]["value"] for one in marked if one["resourceType"] != "Consent"}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_equal_arguments_write_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 3), ("two", 3), ("other", 4)):
        simulate(60, 5, seed, tmp_path / name)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "two")
    assert bytes_of(tmp_path / "one") != bytes_of(tmp_path / "other")


@pytest.mark.parametrize(("patients", "days"), [(1, 1), (300, 1), (2, 365)])
def test_any_size(tmp_path: Path, patients: int, days: int) -> None:
    made = simulate(patients, days, 0, tmp_path)
    assert all(path.stat().st_size for path in made.feeds.rglob("*") if path.is_file()), "an empty file is a message"


@pytest.mark.parametrize(("patients", "days", "option"), [(0, 1, "--patients"), (1, 0, "--days")])
def test_refuses_nothing_to_do(tmp_path: Path, patients: int, days: int, option: str) -> None:
    with pytest.raises(ConfigurationError, match=option):
        simulate(patients, days, 0, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_refuses_a_folder_with_something_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(ConfigurationError, match="--output"):
        simulate(1, 1, 0, tmp_path)
    with pytest.raises(ConfigurationError, match="--output"):
        simulate(1, 1, 0, tmp_path / "notes")
    assert [path.name for path in tmp_path.iterdir()] == ["notes"]


def test_received_is_what_a_plain_count_finds(written: Written) -> None:
    found = 0
    for name, text in written.texts.items():
        if name.endswith(".hl7"):
            found += len(re.findall(r"(?m)^\x0b?MSH\|", text))
        elif name.endswith(".ndjson"):
            found += sum(1 for line in text.splitlines() if line.strip())
        else:
            found += len(json.loads(text)["entry"])
    counts = dict(written.truth["counts"])
    assert counts.pop("received") == found == sum(counts.values())
    assert min(counts.values()) > 10, "every kind of message occurs"


def test_consents_merges_and_repeats_are_what_a_plain_count_finds(written: Written) -> None:
    """Among Consents, merges and Patients, whose repeats are byte-identical, each is counted once."""
    documents = [consent for patient in consents(written.texts).values() for consent in patient]
    distinct = {json.dumps(document) for document in documents}
    triggers = Counter(trigger_of(message) for message in hl7_messages(written.texts))
    patients = [resource for resource in resources(written.texts) if resource["resourceType"] == "Patient"]
    links = sum("link" in patient for patient in patients)
    bundles = sum(name.startswith("bundles/") for name in written.texts)
    personas = written.truth["personas"]
    forms = sum("CON" in message for message in hl7_messages(written.texts))
    assert forms == triggers["A31"] + triggers["A60"] > triggers["A31"] > 0
    assert written.truth["counts"]["consent"] == len(distinct) + triggers["A60"] and len(distinct) < len(documents)
    assert (
        written.truth["counts"]["control"]
        == sum(triggers[one] for one in ("A40", "A08", "A31")) + len(patients) + bundles
    )
    assert triggers["A40"] + links == personas["merged"] + personas["merged, signed since"] == personas[RETIRED]
    assert written.truth["messages"]["control"]["identity"] == triggers["A40"] + links > links > 0
    dead = triggers["A08"] + sum(patient.get("deceasedBoolean", False) for patient in patients)
    assert personas["deceased"] == dead > triggers["A08"] > 0


def test_each_framing_occurs(written: Written) -> None:
    folder = written.simulated.feeds
    ends = {"cr": rb"[^\n]\r(?!\n)", "crlf": rb"\r\n", "lf": rb"[^\r]\n", "mllp": rb"\x1c\r"}
    for name, framing in FRAMINGS.items():
        body = (folder / name).read_bytes()
        assert {end for end, pattern in ends.items() if re.search(pattern, body)} == (
            {"cr", "mllp"} if framing == "mllp" else {framing}
        )


def test_every_persona_and_defect_occurs(written: Written) -> None:
    assert set(written.truth["personas"]) == {persona.name for persona in PERSONAS} | {RETIRED}
    people = sum(written.truth["personas"].values()) - written.truth["personas"][RETIRED]
    assert people == written.truth["patients"] == 400
    everything = "\n".join(written.texts.values())
    assert "&&&&|" in everything and "�" in everything and "Spaceship" in everything
    assert written.truth["messages"]["rejected"].keys() == {reason for _, reason in DEFECTS.values()}
    assert (written.simulated.feeds / ARCHIVE).is_file()
    for mark in ("|PSYCH^12^A|", "|PSY|", "PV2|", "ARV|", '"security":', '"serviceType":', '"status":"cancelled"',
                 '"status":"entered-in-error"', "|1|T|2.5.1", "-0800"):  # fmt: skip
        assert mark in everything, mark
    for trigger in ("A01", "A03", "A04", "A08", "A11", "A13", "A31", "A40", "A60", "S12", "S15", "R01", "V04"):
        assert re.search(rf"\|(ADT|SIU|ORU|VXU)\^{trigger}\^", everything), trigger


def test_nothing_is_released_without_a_standing_permit(written: Written) -> None:
    """Read from the files alone: a permit for purpose and recipient, in force at the visit and signed a day later at
    most, neither ended nor denied since; and one that reaches beyond the disclosure. Or a form that was signed, for
    either purpose of the CRM's. A visit that is marked as substance use: a permit that names it, and no other."""
    said, segments = consents(written.texts), signed_segments(written.texts)
    protected = substance_use(written.texts)
    forms = named = 0
    for entry in written.truth["released"]:
        mine, purpose = said[entry["value"]], ROUTES[entry["route"]].purpose
        if any(by_form(one) for one in mine) or segments[entry["value"]]:
            forms += 1
            assert purpose in BOTH and len(mine) + len(segments[entry["value"]]) == 1
            assert all(con[2].startswith("patient-support^") and con[11] == "A" for con in segments[entry["value"]])
            continue
        latest = (datetime.fromisoformat(entry["day"]) + timedelta(days=1)).isoformat()
        assert all(isinstance(one["provision"], dict) for one in mine), "one of them is illegible"
        recruits = entry["route"] == "trial-recruitment"
        label = ["ETH"] if entry["visit"] in protected else []
        named += bool(label)
        standing = [
            one
            for one in mine
            if one["status"] == "active"
            and one["provision"]["type"] == "permit"
            and not any(purpose in purposes(nested) for nested in one["provision"].get("provision", []))
            and purpose in purposes(one["provision"])
            and one["provision"]["actor"][0]["reference"]["identifier"]["value"]
            == ("crm-research" if recruits else "crm")
            and one["scope"]["coding"][0]["code"] == ("research" if recruits else "patient-privacy")
            and "performer" not in one
            and [coding["code"] for coding in one["provision"].get("securityLabel", [])] == label
            and not any(
                other["dateTime"] > one["dateTime"]
                and (
                    other["id"] == one["id"]
                    or (
                        other["provision"]["type"] == "deny"
                        and purpose in purposes(other["provision"])
                        and "securityLabel" not in other["provision"]  # those are of HIV
                    )
                )
                for other in mine
            )
        ]
        periods = [(one["dateTime"], one["provision"]["period"]) for one in standing]
        assert any(at[:10] <= latest and period["start"][:10] < entry["day"] for at, period in periods)
        assert any(period["end"] > written.truth["as_of"] for _, period in periods)
    assert forms > 10 and named > 10


def test_what_is_withdrawn_conflicting_or_merged_is_not_released(written: Written) -> None:
    """Read from the HL7 files alone. What happened again after it was taken back may be released."""
    released = {(entry["value"], entry["visit"], entry["kind"]) for entry in written.truth["released"]}
    takes_back = {"A11": "admitted", "A13": "discharged", "S15": "booked"}
    contents, gone, happened, merged = defaultdict(set), {}, defaultdict(str), set()
    for message in hl7_messages(written.texts):
        trigger = trigger_of(message)
        if len(message.get("PID", "")) > 3:
            mrn, visit = patient_and_visit(message)
            contents[mrn, message["MSH"][9], message["MSH"][6]].add(visit)
            if trigger in takes_back:
                gone[mrn, visit, takes_back[trigger]] = message["MSH"][6]
            if trigger == "A03":
                happened[mrn, visit, "discharged"] = max(happened[mrn, visit, "discharged"], message["MSH"][6])
            if trigger == "A40":
                merged |= {message["MRG"][1].split("^")[0]} | (
                    {mrn} if message["MSH"][6] > f"{START:%Y%m%d}" else set()
                )
    conflicting = {
        (key[0], visit, "admitted") for key, visits in contents.items() if len(visits) > 1 for visit in visits
    }
    again = {record for record, at in gone.items() if happened[record] > at}
    assert gone.keys() - again and again & released and conflicting and merged
    assert not released & (gone.keys() - again)
    assert not released & conflicting
    assert not {value for value, _, _ in released} & merged


def test_children_the_dead_and_marked_visits_are_not_released(written: Written) -> None:
    of = {entry["value"] for entry in written.truth["released"]}
    visits = {(entry["value"], entry["visit"]) for entry in written.truth["released"]}
    seen = Counter[str]()
    for message in hl7_messages(written.texts):
        if len(message.get("PID", "")) < 19:
            continue
        (mrn, visit), born = patient_and_visit(message), message["PID"][7]
        if f"{int(born[:4]) + 18}{born[4:]}" > f"{START:%Y%m%d}":
            seen["child"] += 1
            assert mrn not in of
        if message["PID"][-1] == "Y":
            seen["dead"] += 1
            assert mrn not in of
        if {"PV2", "ARV"} & message.keys() or {"PSYCH^12^A", "PSY"} & set(message.get("PV1", [])):
            seen["marked"] += 1
            assert (mrn, visit) not in visits
    assert min(seen[what] for what in ("child", "dead", "marked")) > 0


def test_one_record_each(written: Written) -> None:
    """Of a patient on `patient-support` and `adherence`, of a visit and kind on the others."""
    released = written.truth["released"]
    state = ("patient-support", "adherence")
    by_patient = Counter((entry["route"], entry["value"]) for entry in released if entry["route"] in state)
    by_visit = Counter(tuple(entry.values()) for entry in released if entry["route"] not in state)
    assert set(by_patient.values()) == set(by_visit.values()) == {1}
    assert {entry["route"] for entry in released} == set(CRM)
    assert written.simulated.released == len(released) > 400


def test_the_newest_milestone_decides_alone() -> None:
    for history in Hospital(300, 3, 1).histories():
        for route in ("patient-support", "adherence"):
            told = [one for one in history.milestones if one.kind in ROUTES[route].kinds]
            dated = [one.at for one in told if one.fate not in (Fate.TIMELESS, Fate.REFILLED, Fate.NOT_DUE)]
            assert len(dated) == len(set(dated)), "no two at one instant"
            out = [one.milestone for one in expected(history) if one.reason is None and one.route == route]
            assert all(milestone.at == max(dated) and milestone.fate is Fate.STANDS for milestone in out)
            assert len(out) <= 1


def test_adherence_is_what_the_feeds_say(written: Written) -> None:
    """Read from the files alone, where nobody revoked: a gap is out if what was dispensed ran out and nothing more was
    dispensed, or if nothing was at all; else the last dispense is out."""
    ordered, dispensed, stopped = {}, defaultdict(list), set()
    for one in resources(written.texts):
        if one["resourceType"] == "MedicationRequest":
            who = one["subject"]["identifier"]["value"]
            ordered[who] = one["authoredOn"]
            stopped |= {who} if one["status"] == "stopped" else set()
        elif one["resourceType"] == "MedicationDispense":
            supply = one["daysSupply"]["value"]
            dispensed[one["subject"]["identifier"]["value"]].append((one["whenHandedOver"], supply))
    shown = {
        one["value"]: (one["kind"], one["day"]) for one in written.truth["released"] if one["route"] == "adherence"
    }
    assert shown.keys() <= ordered.keys() and stopped and not stopped & shown.keys()
    seen = Counter[str]()
    for who, (kind, day) in shown.items():
        last, supply = max(dispensed[who], default=(ordered[who], 7))
        gap = datetime.fromisoformat(last) + timedelta(days=supply + 7)
        lapsed = gap < datetime.fromisoformat(written.truth["as_of"])
        assert (kind, day) == ((GAP, f"{gap:%Y-%m-%d}") if lapsed else ("dispensed", last[:10]))
        seen[kind] += 1
    assert set(seen) == {GAP, "dispensed"}


def test_whom_recruiters_hear_of(written: Written) -> None:
    """Read from the files alone: candidates of the one study that is approved and open, who are candidates still."""
    candidates, gone, elsewhere = {}, set(), set()
    for one in resources(written.texts):
        if one["resourceType"] == "ResearchSubject":
            who, visit = one["individual"]["identifier"]["value"], one["identifier"][0]["value"]
            names = one["study"].get("reference", ""), one["study"].get("identifier", {}).get("value", "")
            approved = {"ResearchStudy/lmn-example-1", "NCT00000000"} & {*names} and one["period"][
                "start"
            ] > "2025-12-01"
            elsewhere |= set() if approved else {visit}
            gone |= {visit} if one["status"] == "ineligible" else set()
            candidates[visit] = who
    out = {one["visit"]: one["value"] for one in written.truth["released"] if one["route"] == "trial-recruitment"}
    assert out and gone and elsewhere
    assert out.items() <= candidates.items() and not out.keys() & (gone | elsewhere)


def test_each_milestone_is_released_or_withheld_for_a_reason(written: Written) -> None:
    """On each route of the CRM: once for every milestone that it takes; the pairs count the same and the cancellations.
    Each event is of one of three routes; a gap is a pair, but no event."""
    events = 0
    for route in CRM:
        said = [entry for kind in ("released", "withheld") for entry in written.truth[kind] if entry["route"] == route]
        pairs = Counter(entry.get("reason", "released") for entry in said)
        cancellations = written.truth["pairs"][route]["cancellation"]
        assert Counter(written.truth["pairs"][route]) == pairs + Counter(cancellation=cancellations)
        if route != "hcp-notification":  # it takes visits, as patient-support does
            events += sum(entry["kind"] != GAP for entry in said) + cancellations
    assert events == written.truth["counts"]["events_routed"]
    reasons = {entry["reason"] for entry in written.truth["withheld"]}
    assert reasons == {
        "no_consent", "out_of_scope", "not_covered", "expired", "revoked", "denied", "superseded", "cancelled",
        "sensitive", "deceased", "conflicting_copy", "consent_unclear", "identity_changed", "minor", "no_time",
        "refilled", "after_horizon", "study_not_approved",
    }  # fmt: skip


def test_no_case_is_a_close_one() -> None:
    """Two days between a visit and whatever is signed or comes to be known; a day between that and the disclosure."""
    for days in (1, 30):
        invented = Hospital(200, days, 1)
        for history in invented.histories():
            borders = [instant for consent in history.consents for instant in (consent.given, consent.until)]
            if history.persona.twist == "one visit":
                assert borders[0] - history.milestones[-1].at == timedelta(hours=6)
                borders = borders[1:]
            if any(consent.said.form for consent in history.consents):  # how long it lasts is the form's to say
                borders = [consent.given for consent in history.consents]
            born = history.patient.born
            borders.append(datetime(born.year + 18, born.month, min(born.day, 28), tzinfo=UTC))
            happened = [one.at for one in history.milestones if one.fate is not Fate.REFILLED]
            for border in borders:
                assert all(abs((at - border).days) >= 2 for at in happened)
            for border in (*borders, history.news):
                assert abs((invented.calendar["as of"] - border).days) >= 1


def test_identifiers_are_distinctive_and_in_the_feeds(written: Written) -> None:
    identifiers = written.truth["identifiers"]
    everything = "\n".join(written.texts.values())
    assert len(identifiers) > 400 * 8
    assert all(len(identifier) >= 5 and identifier in everything for identifier in identifiers)
    assert {entry["value"] for entry in written.truth["released"]} <= set(identifiers)
    assert {entry["visit"] for entry in written.truth["released"]} <= set(identifiers)


def test_every_release_is_told_in_the_feeds(written: Written) -> None:
    """Its patient and visit stand together in one message (or Bundle)."""
    messages = [line for name, text in written.texts.items() if not name.endswith(".hl7") for line in text.splitlines()]
    messages += [str(message) for message in hl7_messages(written.texts)]
    together = {
        (m, v) for line in messages for m in re.findall(r"GX\d{7}", line) for v in re.findall(r"[A-Z]{2}\d{8}", line)
    }
    assert {(entry["value"], entry["visit"]) for entry in written.truth["released"]} <= together


def test_the_story_can_be_followed(written: Written) -> None:
    story = written.truth["story"]
    granted, ended = sorted(consents(written.texts)[story["value"]], key=lambda one: str(one["dateTime"]))
    assert (granted["status"], ended["status"]) == ("active", "inactive")
    assert (granted["dateTime"], ended["dateTime"]) == (story["enrolled"], story["revoked"])
    assert story["enrolled"] < story["discharged"] < story["revoked"] < written.truth["as_of"]
    assert story["value"] not in {entry["value"] for entry in written.truth["released"]}


def test_clinicians_have_valid_npis(written: Written) -> None:
    """Luhn over 80840 and the NPI, reckoned in another way than `luhn_digit`: 24 stands for the prefix."""
    assert luhn_digit("80840123456789") == "3"
    npis = set(re.findall(r"\b(\d{10})\^", "\n".join(written.texts.values())))
    assert len(npis) > 8
    for npi in npis:
        total = 24 + sum(int(d) for d in npi[1::2]) + sum(sum(map(int, str(2 * int(d)))) for d in npi[::2])
        assert total % 10 == 0


def test_the_oracle_shares_nothing_with_the_boundary() -> None:
    for module in (
        "simulate",
        "hospital",
        "personas",
        "chart",
        "treatments",
        "truth",
        "interface_engine",
        "feeds",
        "malformed",
    ):
        source = Path(feeds.__file__).with_name(f"{module}.py").read_text("utf-8")
        for node in ast.walk(ast.parse(source)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            assert not any(name.split(".")[0] in ("transforms", "apache_beam") for name in names)


def test_ten_thousand_patients_in_well_under_a_minute(tmp_path: Path) -> None:
    begun = monotonic()
    assert simulate(10_000, 30, 1, tmp_path).counts["received"] > 50_000
    assert monotonic() - begun < 30
