"""What cannot be read may be a refusal: whatever rejects a text, one that holds a consent alarms."""

import json
from base64 import b64encode
from typing import Any

import pytest

from schemas.message import Format, Message
from schemas.outcome import Reason
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules import hl7_events
from transforms.rules.rejection import may_hold_consent

CONSENT = {"resourceType": "Consent", "status": "rejected", "patient": {"reference": "Patient/7"}}
OBSERVATION = {"resourceType": "Observation", "status": "final", "note": [{"text": "Consent: see CON"}]}
TEXT, OTHER = json.dumps(CONSENT), json.dumps(OBSERVATION)
REFUSED = "CON|1|support^^LIMEN||||||||W|R||20260301"


def hl7(*segments: str, kind: str = "ADT^A08", charset: str = "", name: str = "DOE") -> str:
    header = f"MSH|^~\\&|EPIC|GENERAL|||20260305100000||{kind}|M1|P|2.5.1||||||{charset}"
    return "\r".join((header, f"PID|1||42^^^GENERAL^MR||{name}", *segments))


def event(data: object = None, **attributes: object) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "m", "source": "urn:feed", "type": "t", "data": data, **attributes}


def became(policy: Policy, form: Format, body: bytes) -> list[str | None]:
    return [one.reason for one in reader(policy).read(form, Message(body, 0))]


HL7: list[tuple[str, Reason, dict[str, str], str, str]] = [
    ("bytes of another charset", Reason.BAD_ENCODING, {"name": "Jos\xe9"}, "latin-1", ""),
    ("an unknown charset", Reason.BAD_CHARSET, {"charset": "EBCDIC"}, "ascii", ""),
    ("JSON behind it", Reason.MALFORMED, {}, "ascii", '\rNTE|1||x\n{"a": 1}'),
    ("another message in it", Reason.MALFORMED, {}, "ascii", "\rMSH|^~\\&|EPIC"),
    ("no type", Reason.NO_TYPE, {"kind": ""}, "ascii", ""),
]


@pytest.mark.parametrize(("reason", "fields", "encoding", "behind"), [pytest.param(*c, id=n) for n, *c in HL7])
def test_an_hl7_message_that_cannot_be_read(
    policy: Policy, reason: Reason, fields: dict[str, str], encoding: str, behind: str
) -> None:
    for segment, expected in ((REFUSED, Reason.CONSENT_OF_NOBODY), ("NTE|1||CON|1|x", reason)):
        body = (hl7(segment, **fields) + behind).encode(encoding)
        assert became(policy, Format.HL7, body) == [expected]
        carried = event(data_base64=b64encode(body).decode(), datacontenttype="application/hl7-v2")
        del carried["data"]
        assert became(policy, Format.NDJSON, json.dumps(carried).encode()) == [expected], "in a CloudEvent"


def test_the_tail_of_a_message_behind_the_end_of_its_block(policy: Policy) -> None:
    assert became(policy, Format.HL7, REFUSED.encode()) == [Reason.CONSENT_OF_NOBODY]


def test_what_a_test_system_sends_is_no_refusal(policy: Policy) -> None:
    """It was read, and in production nothing of it counts."""
    in_production = policy.model_copy(update={"environment": "production"})
    test = hl7(REFUSED, kind="ORU^R01").replace("|P|2.5.1", "|T|2.5.1").encode()
    assert became(in_production, Format.HL7, test) == [Reason.WRONG_ENVIRONMENT]
    assert became(policy, Format.HL7, test) == [None]


EVENTS = [
    ("an older version", {"specversion": "0.3"}, Reason.INVALID_ENVELOPE),
    ("no source", {"source": ""}, Reason.INVALID_ENVELOPE),
    ("another media type", {"datacontenttype": "application/vnd.epic+json"}, Reason.UNKNOWN_KIND),
]


@pytest.mark.parametrize(("attributes", "reason"), [pytest.param(*c, id=n) for n, *c in EVENTS])
def test_a_cloud_event_that_cannot_be_read(policy: Policy, attributes: dict[str, str], reason: Reason) -> None:
    cases = [(CONSENT, Reason.CONSENT_OF_NOBODY), (OBSERVATION, reason)]
    for data, expected in (*cases, *((json.dumps(data), expected) for data, expected in cases)):
        assert became(policy, Format.NDJSON, json.dumps(event(data, **attributes)).encode()) == [expected]


@pytest.mark.parametrize("data", [TEXT, json.dumps(CONSENT, indent=1), json.dumps(TEXT), hl7(REFUSED)])
def test_data_as_a_string(policy: Policy, data: str) -> None:
    """A string within JSON has its marks and line ends escaped, by some writers as \\u0022 and \\u000d."""
    plain = json.dumps(event(data))
    small = plain.replace('\\"', "\\u0022").replace("\\n", "\\u000a").replace("\\r", "\\u000d")
    for text in (plain, small, small.replace("000a", "000A").replace("000d", "000D")):
        assert became(policy, Format.NDJSON, text.encode()) == [Reason.CONSENT_OF_NOBODY]
    assert became(policy, Format.NDJSON, json.dumps(event(OTHER)).encode()) == [Reason.UNKNOWN_KIND]


@pytest.mark.parametrize("alphabet", [b"+/", b"-_"])
def test_what_an_envelope_cannot_unpack(policy: Policy, alphabet: bytes) -> None:
    packed = b64encode((TEXT + "?>~" * 9).encode(), alphabet).decode()
    carried = json.dumps({**event(data_base64=packed + "\n"), "data": None})
    assert became(policy, Format.NDJSON, carried.encode()) == [Reason.CONSENT_OF_NOBODY]


XML = '<f:Consent xmlns:f="http://hl7.org/fhir"><f:status value="rejected"/></f:Consent>'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(TEXT.encode("utf-16"), id="UTF-16"),
        pytest.param(b"\x1e" + TEXT.encode() + b"\n", id="a sequence of JSON texts"),
        pytest.param(XML.encode(), id="XML"),
        pytest.param(XML.replace("f:", "").encode(), id="XML without a prefix"),
        pytest.param(XML.encode("utf-16"), id="XML in UTF-16"),
    ],
)
def test_a_file_of_no_known_format(policy: Policy, body: bytes) -> None:
    assert became(policy, Format.UNKNOWN, body) == [Reason.CONSENT_OF_NOBODY]
    other = body.replace(b"C\0o\0n\0s", b"C\0o\0m\0s").replace(b"Cons", b"Coms")
    assert became(policy, Format.UNKNOWN, other) == [Reason.UNKNOWN_FORMAT]


@pytest.mark.parametrize("text", [TEXT.replace("Consent", "consent"), TEXT.replace("resourceType", "resourcetype")])
def test_a_type_in_other_letters(policy: Policy, text: str) -> None:
    assert became(policy, Format.JSON, text.encode()) == [Reason.CONSENT_OF_NOBODY]


@pytest.mark.parametrize(
    "change",
    [
        {"method": "DELETE", "url": "https://e/fhir/Consent/1"},
        {"method": "PATCH", "url": "Consent/1"},
        {"method": "patch", "url": "Consent?identifier=a|b"},
        {"method": "MERGE", "url": "Consent/1"},
    ],
)
def test_a_bundle_entry_that_changes_a_consent_by_halves(policy: Policy, change: dict[str, str]) -> None:
    for resource in ({"resourceType": "Binary", "data": "W10="}, {"resourceType": "Parameters"}, None):
        entry = {"request": change} if resource is None else {"request": change, "resource": resource}
        whole = json.dumps({"resourceType": "Bundle", "type": "transaction", "entry": [entry]})
        assert became(policy, Format.JSON, whole.encode()) == [Reason.CONSENT_OF_NOBODY]
        for method, url in (("GET", "Consent/1"), ("PATCH", "ConsentForm/1"), ("PATCH", "List/1?about=Consent/1")):
            read = whole.replace(change["method"], method).replace(change["url"], url)
            assert became(policy, Format.JSON, read.encode()) == [None]


def test_parameters_that_hold_a_consent(policy: Policy) -> None:
    """So gICS hands out consents. What else comes as Parameters is still asked for by nobody."""
    for resource, expected in ((CONSENT, Reason.CONSENT_OF_NOBODY), (OBSERVATION, None)):
        whole = {"resourceType": "Parameters", "parameter": [{"name": "consent", "resource": resource}]}
        assert became(policy, Format.JSON, json.dumps(whole).encode()) == [expected]
        assert became(policy, Format.NDJSON, json.dumps(event(whole)).encode()) == [expected]


def test_a_fault_of_ours_does_not_hide_a_refusal(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[object]:
        raise KeyError

    monkeypatch.setattr(hl7_events, "read", broken)
    assert became(policy, Format.HL7, hl7(REFUSED).encode()) == [Reason.CONSENT_OF_NOBODY]
    assert became(policy, Format.HL7, hl7().encode()) == [Reason.DEFECT]


@pytest.mark.parametrize(
    "text",
    [
        "Dear Sir, we need your consent.\nCon artists: do not write. CON",
        "PRO | CON\nCON | PRO\nCON: none",
        '{"resourceType": "Questionnaire", "title": "Consent", "item": [{"text": "Consent to treatment"}]',
        '{"resourceType": "DocumentReference", "type": {"text": "Consent"}, "reference": "Consent/1"',
        '{"resourceType": "ConsentForm"',
        "<p>Informed <b>consent</b></p><consented/>",
        "MSH|^~\\&|A\rCONTACT|1|x\rOBX|1|TX|||CON|1|x",
    ],
)
def test_what_only_speaks_of_consent_is_none(text: str) -> None:
    assert not may_hold_consent(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        '{"resource\\u0054ype": "Consent"',
        '{"data_base64": "' + b64encode(TEXT.encode()).decode()[:70],
        '{"data_base64": "' + b64encode(TEXT.encode()).decode()[:71],
    ],
    ids=["escaped letters", "cut off", "cut off within four"],
)
def test_what_was_cut_off_or_escaped(text: str) -> None:
    assert may_hold_consent(text.encode())
