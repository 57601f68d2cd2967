"""JSON texts to messages: CloudEvents, Bundles, batches; each is counted once, and means one thing only."""

import base64
import json
from datetime import UTC
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.event import Consent, Identity, Made, Mark, Milestone, Person
from schemas.outcome import Reason
from transforms.rules import envelope, hl7_events
from transforms.rules.envelope import NESTED, Envelopes, unambiguous
from transforms.rules.envelope_parts import Counted
from transforms.rules.fhir import NPI_SYSTEM
from transforms.rules.reading import Reading

ENVELOPES = Envelopes(Reading("ehr", "UTF-8", UTC, ("MR", "")), {"HMARKT": ()}, hl7_events.read)
HL7 = "MSH|^~\\&|EPIC|SITE|||20240501120000||ADT^A01|M1|P|2.5.1\rPID|1||42^^^MAIN^MR\r"
NPI, OTHER_NPI = "1234567893", "1245319599"
MR = {"system": "urn:id:MAIN", "value": "42"}
OBSERVATION = {"resourceType": "Observation", "valueString": "x"}
PATIENT = {"resourceType": "Patient", "id": "7", "identifier": [MR]}
CONSENT = {"resourceType": "Consent", "id": "c", "status": "rejected", "patient": {"reference": "Patient/7"}}


def encounter(reference: str = "Patient/7", **fields: Any) -> dict[str, Any]:
    known = {"resourceType": "Encounter", "id": "e", "status": "finished", "subject": {"reference": reference}}
    return known | fields


def event(data: object = None, **attributes: Any) -> dict[str, Any]:
    """A CloudEvent; an attribute of None is left out."""
    known = {"specversion": "1.0", "id": "m1", "source": "urn:feed", "type": "org.hl7.fhir", "data": data}
    return {name: value for name, value in (known | attributes).items() if value is not None}


def bundle(*resources: object, kind: str = "collection", **fields: Any) -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": [{"resource": one} for one in resources], **fields}


def said(counted: list[Counted]) -> list[str]:
    """A word for each message: why it is rejected, or what it became."""
    words = []
    for one in counted:
        assert (one.reason is None) == bool(one.facts)
        facts = [fact for fact in one.facts if not isinstance(fact, Mark)]
        assert one.reason is not None or sum(not isinstance(f, Identity | Person) or f.counted for f in facts) == 1
        fact = one.facts[0] if one.facts else None
        word = "demographics" if isinstance(fact, Person) else type(fact).__name__
        words.append(fact.reason if isinstance(fact, Made) else str(one.reason or word))
    return words


def opened(tree: object) -> list[Counted]:
    """The same messages, as a line and as a document."""
    body = json.dumps(tree).encode()
    assert ENVELOPES.line(body) == ENVELOPES.document(body)
    return ENVELOPES.line(body)


def milestones(counted: list[Counted]) -> list[Milestone]:
    return [fact for one in counted for fact in one.facts if isinstance(fact, Milestone)]


# --- Kinds --------------------------------------------------------------------------------------------------------

KINDS = [
    ("an Encounter", encounter(), "Milestone"),
    ("a Consent", CONSENT, "Consent"),
    ("a Patient", PATIENT, "demographics"),
    ("a Patient that links to another", {**PATIENT, "link": [{"other": {"reference": "Patient/8"}}]}, "Identity"),
    ("a type that no purpose asks for", OBSERVATION, "no_route"),
    ("a type that FHIR does not have", {"resourceType": "Visit"}, "unknown_kind"),
    ("a type that is no word", {"resourceType": ["Encounter"]}, "unknown_kind"),
    ("no type", {"status": "finished"}, "unknown_kind"),
    ("an empty object", {}, "unknown_kind"),
    ("a broken Encounter", encounter(status=5), "malformed"),
    ("an Encounter of nobody", encounter(""), "no_patient"),
    ("a resource that calls itself an event too", encounter(specversion="1.0"), "Milestone"),
]


@pytest.mark.parametrize("tree, word", [pytest.param(*case, id=name) for name, *case in KINDS])
def test_kinds(tree: dict[str, Any], word: str) -> None:
    assert said(opened(tree)) == [word]
    assert said(opened(bundle(tree))) == [word], "as an entry"
    carried = word if "specversion" in tree or word != "unknown_kind" else "unknown_kind"
    assert said(opened(event(tree))) == [carried], "as the data of an event"


# --- One text, one meaning ------------------------------------------------------------------------------------------

TWICE = [
    ("a status", '{"resourceType":"Encounter","status":"planned","status":"finished"}'),
    ("a type", '{"resourceType":"Observation","resourceType":"Encounter"}'),
    ("one of them escaped", '{"resourceType":"Encounter","status":"planned","st\\u0061tus":"finished"}'),
    ("of equal values", '{"resourceType":"Encounter","status":"finished","status":"finished"}'),
    ("deep in it", '{"resourceType":"Encounter","subject":{"reference":"Patient/1","reference":"Patient/2"}}'),
    ("in a list", '{"resourceType":"Encounter","identifier":[{"value":"1","value":"2"}]}'),
    ("where nobody reads", '{"resourceType":"Observation","note":{"text":"a","text":"b"}}'),
    ("with quotation marks about", r'{"resourceType":"Encounter","a":"\"","status":"","status":"\"\""}'),
    ("with written quotation marks about", r'{"resourceType":"Encounter","status":"1","status":"\u0022\u0022"}'),
    ("the empty name", '{"resourceType":"Encounter","":1,"":2}'),
    ("an event's data", '{"specversion":"1.0","id":"1","source":"s","type":"t","data":{},"data":{}}'),
    ("a denial", '{"resourceType":"Consent","provision":{"type":"deny","type":"permit"}}'),
    ("a Bundle's entries", '{"resourceType":"Bundle","entry":[],"entry":[{"resource":{"resourceType":"Patient"}}]}'),
]


@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in TWICE])
def test_a_member_that_is_named_twice_rejects_the_text(text: str) -> None:
    reason = "consent_of_nobody" if "Consent" in text else "duplicate_json_key"  # there somebody may have refused
    inside = f'{{"resourceType":"Bundle","entry":[{{"resource":{text}}}]}}'
    for body in (text, f" {text}\n", inside, f"[{text}]", text.replace(",", " ,\t")):
        assert said(ENVELOPES.document(body.encode())) == [reason]
    carried = event(data_base64=base64.b64encode(text.encode()).decode())
    assert said(opened(carried)) == [reason]


TEXT = st.text(st.characters(exclude_categories=["Cs"]))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner),
    max_leaves=8,
)


@given(tree=JSON, plain=st.booleans(), indent=st.sampled_from((None, 1)))
def test_a_text_that_names_every_member_once_is_read(tree: object, plain: bool, indent: int | None) -> None:
    assert unambiguous(json.dumps(tree, ensure_ascii=plain, indent=indent).encode()) == tree


NAMES = st.sampled_from(("a", "b", '"', "\\", '\\"', "é", ""))


@given(st.lists(st.tuples(NAMES, NAMES), max_size=4), st.booleans())
def test_a_text_is_refused_exactly_where_a_member_is_named_twice(members: list[tuple[str, str]], escaped: bool) -> None:
    def quoted(text: str) -> str:
        return (
            '"' + "".join(f"\\u{ord(c):04x}" for c in text) + '"' if escaped else json.dumps(text, ensure_ascii=False)
        )

    text = "{" + ", ".join(f"{quoted(name)} : {json.dumps(value)}" for name, value in members) + "}"
    if len({name for name, _ in members}) == len(members):
        assert unambiguous(text.encode()) == dict(members)
    else:
        with pytest.raises(MessageError, match="^duplicate_json_key$"):
            unambiguous(text.encode())


NO_JSON = [
    ("NaN", b'{"resourceType":"Observation","value":NaN}', "malformed"),
    ("infinity", b'{"resourceType":"Observation","value":-Infinity}', "malformed"),
    ("a number beyond all floats", b'{"resourceType":"Observation","value":1e999}', "malformed"),
    ("a number of 5,000 figures", b'{"resourceType":"Observation","value":%b}' % (b"9" * 5000), "malformed"),
    ("a number of 30 figures is one", b'{"resourceType":"Observation","value":%b}' % (b"9" * 30), "no_route"),
    ("half a surrogate pair", b'{"resourceType":"Observation","x":"\\ud800"}', "malformed"),
    ("a surrogate as bytes", b'{"resourceType":"Observation","x":"\xed\xa0\x80"}', "malformed"),
    ("bytes that are no UTF-8", b'{"resourceType":"Observation","x":"\xff"}', "malformed"),
    ("a control character", b'{"resourceType":"Observation","x":"\x01"}', "malformed"),
    ("single quotes", b"{'resourceType':'Observation'}", "malformed"),
    ("a comma too many", b'{"resourceType":"Observation",}', "malformed"),
    ("cut off", b'{"resourceType":"Observation"', "malformed"),
    ("two texts", b'{"resourceType":"Observation"}{}', "malformed"),
    ("a text in UTF-16", '{"resourceType":"Observation"}'.encode("utf-16"), "malformed"),
    ("a word", b"null", "malformed"),
    ("a number", b"5", "malformed"),
    ("nothing", b"", "malformed"),
    ("10,000 levels of lists", b"[" * 10_000, "too_deep"),
    ("10,000 levels of objects", b'{"resourceType":"Observation","a":' + b'{"a":' * 10_000, "too_deep"),
]


@pytest.mark.parametrize("body, word", [pytest.param(*case, id=name) for name, *case in NO_JSON])
def test_what_is_no_json(body: bytes, word: str) -> None:
    assert said(ENVELOPES.line(body)) == [word]
    assert said(ENVELOPES.document(body)) == [word]


def test_no_depth_is_a_defect() -> None:
    """A text that could just be read may be too deep for what is done with it next."""
    words = set()
    for levels in range(700, 1000):
        deep = "[" * levels + "]" * levels
        patient = f'{{"resourceType":"Patient","identifier":{deep}}}'
        for text in (
            f'{{"resourceType":"Encounter","status":"finished","contained":[{patient}],"x":"\\u0022"}}',
            f'{{"resourceType":"Consent","provision":{deep}}}',
            json.dumps(event("#")).replace('"#"', f'{{"resourceType":"Bundle","entry":[{{"resource":{patient}}}]}}'),
            f"[{patient}]",
        ):
            words.update(said(ENVELOPES.document(text.encode())))
    assert words == {"too_deep", "malformed", "no_patient", "consent_of_nobody"}


# --- CloudEvents ----------------------------------------------------------------------------------------------------


def in_base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


EVENTS = [
    ("FHIR without a media type", event(encounter()), "Milestone"),
    ("FHIR as JSON", event(encounter(), datacontenttype="application/json"), "Milestone"),
    ("FHIR as FHIR", event(encounter(), datacontenttype="application/fhir+json"), "Milestone"),
    ("a parameter", event(encounter(), datacontenttype="Application/FHIR+JSON; fhirVersion=4.0"), "Milestone"),
    ("FHIR in base64", event(data_base64=in_base64(json.dumps(encounter()).encode())), "Milestone"),
    ("HL7 as text", event(HL7, datacontenttype="application/hl7-v2"), "Milestone"),
    ("HL7 in base64", event(data_base64=in_base64(HL7.encode()), datacontenttype="application/hl7-v2"), "Milestone"),
    ("HL7 as an object", event({"MSH": "x"}, datacontenttype="application/hl7-v2"), "invalid_envelope"),
    ("HL7 that is none", event("MSX|", datacontenttype="application/hl7-v2"), "malformed"),
    ("HL7 that is not said to be", event(HL7), "unknown_kind"),
    ("JSON in a text", event(json.dumps(encounter())), "unknown_kind"),
    ("a list", event([encounter()]), "unknown_kind"),
    ("another media type", event(encounter(), datacontenttype="application/xml"), "unknown_kind"),
    ("an event in an event", event(event(encounter())), "unknown_kind"),
    ("no JSON in base64", event(data_base64=in_base64(b"{")), "malformed"),
    ("no base64", event(data_base64="####"), "invalid_envelope"),
    ("base64 of another alphabet", event(data_base64="é==="), "invalid_envelope"),
    ("no data", event(), "invalid_envelope"),
    ("data twice", event(encounter(), data_base64=in_base64(b"{}")), "invalid_envelope"),
    ("another version", event(encounter(), specversion="0.3"), "invalid_envelope"),
    ("a number for a version", event(encounter(), specversion=1.0), "invalid_envelope"),
    ("no id", event(encounter(), id=None), "invalid_envelope"),
    ("an empty id", event(encounter(), id=""), "invalid_envelope"),
    ("a number for an id", event(encounter(), id=5), "invalid_envelope"),
    ("no source", event(encounter(), source=None), "invalid_envelope"),
    ("no type", event(encounter(), type=None), "invalid_envelope"),
    ("an object for a media type", event(encounter(), datacontenttype={}), "invalid_envelope"),
]


@pytest.mark.parametrize("tree, word", [pytest.param(*case, id=name) for name, *case in EVENTS])
def test_cloudevents(tree: dict[str, Any], word: str) -> None:
    assert said(opened(tree)) == [word]


def test_the_source_of_an_event_is_that_of_its_references() -> None:
    (by_reference,) = milestones(opened(event(encounter())))
    assert by_reference.patient == "urn:feed\x1fPatient/7"
    (elsewhere,) = milestones(opened(event(encounter(), source="urn:other")))
    assert elsewhere.patient != by_reference.patient
    assert elsewhere.key != by_reference.key
    (odd,) = opened(event(encounter(), source="urn:\x1ffeed"))
    assert odd.reason is Reason.NO_PATIENT


def test_a_batch_is_as_many_messages() -> None:
    batch = [
        event(encounter(), id="1"),
        event(encounter(), id=""),
        encounter(),
        5,
        None,
        [],
        bundle(PATIENT, OBSERVATION),
    ]
    counted = ENVELOPES.document(json.dumps(batch).encode())
    rejected = ["malformed"] * 3
    assert said(counted) == ["Milestone", "invalid_envelope", "Milestone", *rejected, "demographics", "no_route"]
    assert [json.loads(one.body) for one in counted] == [*batch[:6], PATIENT, OBSERVATION]


def test_an_empty_batch_is_a_message_all_the_same() -> None:
    assert said(ENVELOPES.document(b" [ ] ")) == ["notification"]


def test_a_batch_is_no_line() -> None:
    assert said(ENVELOPES.line(b"[]")) == ["malformed"]


# --- Bundles --------------------------------------------------------------------------------------------------------

PARAMETERS = {"resourceType": "Parameters"}
BUNDLES = [
    ("every entry", bundle(PATIENT, encounter(), OBSERVATION), ["demographics", "Milestone", "no_route"]),
    ("one bad entry condemns itself", bundle(encounter(status=5), encounter()), ["malformed", "Milestone"]),
    ("an entry that is no resource", bundle({"a": 1}, 5, "x"), ["unknown_kind", "malformed", "malformed"]),
    ("an event is no entry", bundle(event(encounter())), ["unknown_kind"]),
    ("entries that only point", {"resourceType": "Bundle", "entry": [{"fullUrl": "x"}, {}]}, ["notification"] * 2),
    ("no entries", {"resourceType": "Bundle"}, ["notification"]),
    ("a null for entries", {"resourceType": "Bundle", "entry": None}, ["notification"]),
    ("a null for a resource", bundle(None), ["malformed"]),
    ("a text for entries", {"resourceType": "Bundle", "entry": "x"}, ["malformed"]),
    ("a null among entries", {"resourceType": "Bundle", "entry": [None]}, ["malformed"]),
    ("a number for a URL", {"resourceType": "Bundle", "entry": [{"fullUrl": 5}]}, ["malformed"]),
    ("a Bundle in a Bundle", bundle(bundle(PATIENT), OBSERVATION), ["demographics", "no_route"]),
    ("a broken Bundle in a Bundle", bundle(bundle(entry=1), OBSERVATION), ["malformed", "no_route"]),
    ("one identifier, as a Bundle has", bundle(bundle(OBSERVATION, identifier=MR)), ["no_route"]),
    ("Parameters that are no status", bundle(PARAMETERS, OBSERVATION, kind="history"), ["no_route", "no_route"]),
]  # fmt: skip


@pytest.mark.parametrize("tree, words", [pytest.param(*case, id=name) for name, *case in BUNDLES])
def test_bundles(tree: dict[str, Any], words: list[str]) -> None:
    assert said(opened(tree)) == words
    assert said(opened(event(tree))) == words
    assert said(opened(event(data_base64=in_base64(json.dumps(tree).encode())))) == words


def test_each_entry_keeps_its_own_bytes() -> None:
    text = (
        b'{"resourceType": "Bundle", "entry": [{"resource": {"resourceType":"Encounter", "n": 1.10}}, {"resource":{}}]}'
    )
    assert [one.body for one in ENVELOPES.line(text)] == [b'{"resourceType":"Encounter", "n": 1.10}', b"{}"]


def test_a_bundle_of_too_many_entries_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "ENTRIES", 3)
    assert said(opened(bundle(*[OBSERVATION] * 3))) == ["no_route"] * 3
    assert said(opened(bundle(*[OBSERVATION] * 4))) == ["too_large"]
    assert said(opened(bundle(bundle(*[OBSERVATION] * 4), OBSERVATION))) == ["too_large", "no_route"]


def test_bundles_nest_only_so_far() -> None:
    tree: dict[str, Any] = OBSERVATION
    for depth in range(1, NESTED + 3):
        tree = bundle(tree)
        assert said(opened(tree)) == (["no_route"] if depth <= NESTED else ["too_deep"])


def entry(url: str, resource: object) -> dict[str, Any]:
    return {"fullUrl": url, "resource": resource}


def within(reference: str, *entries: dict[str, Any]) -> list[str]:
    """The patients of an Encounter that stands in a Bundle with these entries, before and behind them."""
    found = []
    for place in (0, len(entries)):
        all_entries = [*entries[:place], entry("", encounter(reference)), *entries[place:]]
        counted = opened({"resourceType": "Bundle", "entry": all_entries})
        found.append(milestones(counted)[0].patient if milestones(counted) else "")
    return found


OTHER = {"resourceType": "Patient", "id": "7", "identifier": [{"system": "urn:id:MAIN", "value": "43"}]}
UNNAMED = {"resourceType": "Patient", "id": "7"}
BROKEN = {"resourceType": "Patient", "id": "7", "identifier": "42"}
RESOLVED = [
    ("by Type/id", "Patient/7", [entry("", PATIENT)], "urn:id:MAIN\x1f42"),
    ("by URL", "https://b/Patient/7", [entry("https://b/Patient/7", PATIENT)], "urn:id:MAIN\x1f42"),
    ("by uuid", "urn:uuid:1", [entry("urn:uuid:1", PATIENT)], "urn:id:MAIN\x1f42"),
    ("in one version", "Patient/7/_history/2", [entry("", PATIENT)], "urn:id:MAIN\x1f42"),
    ("two versions of one patient", "Patient/7", [entry("", PATIENT), entry("", PATIENT)], "urn:id:MAIN\x1f42"),
    ("two patients of one name", "Patient/7", [entry("https://a", PATIENT), entry("https://b", OTHER)], ""),
    ("the same, by URL", "https://b/Patient/7", [entry("", PATIENT), entry("https://b/Patient/7", OTHER)],
     "urn:id:MAIN\x1f43"),
    ("three", "Patient/7", [entry("", PATIENT), entry("", OTHER), entry("", PATIENT)], ""),
    ("a Patient without an identifier", "Patient/7", [entry("", UNNAMED)], "ehr\x1fPatient/7"),
    ("a Patient that cannot be read", "Patient/7", [entry("", BROKEN)], ""),
    ("another base URL", "https://c/Patient/7", [entry("https://b/Patient/7", PATIENT)], "https://c\x1fPatient/7"),
    ("another patient", "Patient/8", [entry("", PATIENT)], "ehr\x1fPatient/8"),
    ("a type that is no word", "Patient/7", [entry("", {**PATIENT, "resourceType": ["Patient"]})], "ehr\x1fPatient/7"),
]  # fmt: skip


@pytest.mark.parametrize("reference, entries, key", [pytest.param(*case, id=name) for name, *case in RESOLVED])
def test_references_within_a_bundle(reference: str, entries: list[dict[str, Any]], key: str) -> None:
    assert within(reference, *entries) == [key, key]


def test_a_consent_and_an_encounter_of_one_bundle_meet() -> None:
    counted = opened(bundle(PATIENT, CONSENT, encounter()))
    assert {f.patient for one in counted for f in one.facts if isinstance(f, Consent | Milestone)} == {
        "urn:id:MAIN\x1f42"
    }


def test_a_bundle_in_a_bundle_does_not_see_the_patients_of_the_outer_one() -> None:
    (fact,) = milestones(opened(bundle(PATIENT, bundle(encounter()))))
    assert fact.patient == "ehr\x1fPatient/7"


@pytest.mark.parametrize(
    "values, npi", [([NPI], NPI), ([OTHER_NPI, NPI], OTHER_NPI), (["1234567890"], ""), (["77"], ""), ([], "")]
)
def test_clinicians_within_a_bundle(values: list[str], npi: str) -> None:
    stated = [{"system": "urn:x", "value": NPI}, *({"system": NPI_SYSTEM, "value": value} for value in values)]
    practitioner = {"resourceType": "Practitioner", "id": "1", "identifier": stated}
    seen = encounter(participant=[{"individual": {"reference": "Practitioner/1"}}])
    (fact,) = milestones(opened(bundle(seen, practitioner)))
    assert fact.values.get("npi", "") == npi


def test_a_practitioner_that_cannot_be_read_is_nobody() -> None:
    people = [{"actor": {"reference": "Practitioner/1"}}, {"actor": {"reference": "Patient/7"}}]
    booked = {"resourceType": "Appointment", "status": "booked", "participant": people}
    counted = opened(bundle(booked, {"resourceType": "Practitioner", "id": "1", "identifier": "x"}))
    assert said(counted) == ["Milestone", "no_route"]


def test_the_entries_of_a_carried_bundle_have_keys_of_their_own() -> None:
    counted = opened(event(bundle(encounter(), encounter(id="f"))))
    again = opened(event(bundle(encounter()), id="m2"))
    keys = [fact.key for fact in milestones(counted)]
    assert len(set(keys)) == 2
    assert [fact.key for fact in milestones(again)] == keys[:1], "told again under another id, it is the same message"
    assert {fact.patient for fact in milestones(counted)} == {"urn:feed\x1fPatient/7"}


def test_a_deletion_is_rejected_for_a_person_to_see() -> None:
    """It names no patient; read as a live resource, or passed over, it would leave standing what was taken back."""
    gone = {"fullUrl": "https://b/Consent/1", "request": {"method": "DELETE", "url": "Consent/1"}}
    put = {"resource": encounter(), "request": {"method": "PUT", "url": "Encounter/1"}}
    other = {**put, "request": {"method": "delete", "url": "Encounter/1"}}
    history = {"resourceType": "Bundle", "type": "history", "entry": [gone, other, put]}
    assert said(opened(history)) == ["consent_of_nobody", "deletion", "Milestone"]


# --- modifiers, wherever they stand --------------------------------------------------------------------------------

UNKNOWN = [{"url": "http://example.org/not-done", "valueBoolean": True}]


@pytest.mark.parametrize(
    "around, entry, resource",
    [
        pytest.param({}, {}, {"participant": [{"modifierExtension": UNKNOWN}]}, id="in a part that is read"),
        pytest.param({}, {}, {"location": [{"modifierExtension": UNKNOWN}]}, id="in a part that is not"),
        pytest.param({"implicitRules": "http://example.org/rules"}, {}, {}, id="rules of the Bundle"),
        pytest.param({}, {"modifierExtension": UNKNOWN}, {}, id="on the entry"),
    ],
)
def test_a_modifier_anywhere_rejects(around: dict[str, Any], entry: dict[str, Any], resource: dict[str, Any]) -> None:
    whole = {**bundle(), **around, "entry": [{**entry, "resource": encounter(**resource)}]}
    assert said(opened(whole)) == ["unknown_modifier"]
    escaped = json.dumps(whole).replace("modifierExtension", "modifier\\u0045xtension").encode()
    assert said(ENVELOPES.line(escaped)) == ["unknown_modifier"]


def test_a_consent_in_a_bundle_with_rules_of_its_own_permits_nothing() -> None:
    asked = {**CONSENT, "status": "active", "provision": {"type": "permit"}}
    [found] = opened(bundle(asked, implicitRules="urn:x"))
    assert [fact.says for fact in found.facts if isinstance(fact, Consent)] == ["unclear"]


@pytest.mark.parametrize(
    "around, entry",
    [
        pytest.param({"implicitRules": None}, {}, id="of the Bundle"),
        pytest.param({"implicitRules": "urn:x"}, {"implicitRules": None}, id="of the entry"),
    ],
)
def test_no_null_takes_a_modifier_away(around: dict[str, Any], entry: dict[str, Any]) -> None:
    resource = encounter(implicitRules="urn:x")
    assert said(opened({**bundle(), **around, "entry": [{**entry, "resource": resource}]})) == ["unknown_modifier"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(json.dumps(CONSENT)[:-9], id="that breaks off"),
        pytest.param(json.dumps(bundle(CONSENT)).replace('"entry": [', '"entry": [null, '), id="in a broken Bundle"),
    ],
)
def test_a_text_that_cannot_be_read_may_hold_a_refusal(text: str) -> None:
    assert said(ENVELOPES.line(text.encode())) == ["consent_of_nobody"]
    assert said(ENVELOPES.line(text.replace("Consent", "Encounter").encode())) == ["malformed"]


@pytest.mark.parametrize(
    "url, reason",
    [("Consent/1", "consent_of_nobody"), ("https://e/fhir/Consent?patient=2", "consent_of_nobody"),
     ("/Consent?identifier=http://a/b|c", "consent_of_nobody"), ("Encounter/1", "deletion"), (None, "deletion"),
     ("ConsentForm/1", "deletion"), ("Patient?active=false", "deletion"), ("https://e/fhir/Location/1", "no_route"),
     ("Observation?subject=Patient/7", "no_route")],
)  # fmt: skip
def test_whatever_is_deleted_its_type_is_judged_first(url: str | None, reason: str) -> None:
    assert said(opened({**bundle(), "entry": [{"request": {"method": "DELETE", "url": url}}]})) == [reason]
