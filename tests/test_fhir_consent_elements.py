"""The elements of a FHIR Consent: one with anything else in it, or an empty one, permits nothing, and still denies."""

import pytest
from fhir_consents import (
    CALLED,
    CODED,
    MODIFIER,
    PERIOD,
    PURPOSES,
    Json,
    Place,
    a_document,
    a_provision,
    around,
    case,
    coded,
    places,
    read,
    with_,
)

from schemas.event import Says
from transforms.rules.fhir_consent import consent

PERMIT, DENY, ENDS, VOID, UNCLEAR = Says.PERMIT, Says.DENY, Says.ENDS, Says.VOID, Says.UNCLEAR

EVERYTHING = a_document(  # each element of FHIR R4 Consent, of its parts and of their types
    meta={"versionId": "1", "lastUpdated": "2024-06-01T00:00:00Z", "source": "urn:x", "profile": ["urn:x"],
          "security": CODED["coding"], "tag": CODED["coding"]},
    language="en", _language={"extension": MODIFIER}, text={"status": "generated", "div": "<div/>"},
    contained=[{"resourceType": "Organization", "id": "o", "name": "The hospital"}],
    extension=[{"url": "urn:x", "extension": [{"url": "y", "valueString": "z"}]}], fhir_comments=["seen"],
    identifier=[CALLED["identifier"]], category=[CODED], performer=[{"reference": "Patient/7"}], organization=[CALLED],
    policy=[{"authority": "urn:x", "uri": "urn:y"}], policyRule=CODED,
    sourceAttachment={"contentType": "text/plain", "language": "en", "data": "eA==", "url": "urn:x", "size": 1,
                      "hash": "eA==", "title": "The form", "creation": "2024-05-01"},
    verification=[{"verified": True, "verifiedWith": CALLED, "verificationDate": "2024-05-01"}],
    provision=a_provision(
        id="1", period=PERIOD, dataPeriod=PERIOD, securityLabel=CODED["coding"], code=[CODED],
        data=[{"meaning": "instance", "reference": CALLED}], provision=[a_provision(type="deny", code=[CODED])],
        **{"class": CODED["coding"]},
    ),
)  # fmt: skip
PARTS = [path for path, value in places(EVERYTHING) if isinstance(value, dict)]
NAMED_PARTS = [pytest.param(path, id=".".join(map(str, path)) or "the root") for path in PARTS]


def test_every_element_of_it_may_be_there() -> None:
    assert read(EVERYTHING).says is PERMIT
    assert len(PARTS) > 40


@pytest.mark.parametrize("path", NAMED_PARTS)
@pytest.mark.parametrize("key", ["unheard-of", "modifierExtension", "_system", "_code", "_reference", "_end"])
def test_what_is_no_element_is_not_understood(path: Place, key: str) -> None:
    assert read(with_(EVERYTHING, (*path, key), MODIFIER)).says is UNCLEAR


@pytest.mark.parametrize("nothing", [None, "", [], {}], ids=repr)
def test_what_is_there_but_empty_is_not_understood(nothing: object) -> None:
    """No element of FHIR's JSON is null or empty; one that is could be a criterion that somebody lost."""
    tried = [path for path, _ in places(EVERYTHING) if path and path[0] != "patient"]
    assert len(tried) > 150
    for path in tried:
        assert read(with_(EVERYTHING, path, nothing)).says is UNCLEAR, path


@pytest.mark.parametrize(
    "path",
    [("extension", 0), ("extension", 0, "extension", 0), ("contained", 0), ("text",), ("_language",),
     ("category", 0, "coding", 0, "_display")],
)  # fmt: skip
def test_a_modifier_of_what_nobody_reads(path: Place) -> None:
    assert read(with_(EVERYTHING, (*path, "unheard-of"), MODIFIER)).says is PERMIT
    assert read(with_(EVERYTHING, (*path, "modifierExtension"), MODIFIER)).says is UNCLEAR


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("a permit", [UNCLEAR]),
        case("a denial", [UNCLEAR, DENY], provision=a_provision(type="deny")),
        case("an exception", [UNCLEAR, DENY],
             provision=a_provision(provision=[{"type": "deny", "purpose": coded("v3-ActReason", "HMARKT")["coding"]}])),
        case("rejected", [UNCLEAR, DENY], status="rejected"),
        case("inactive", [UNCLEAR, ENDS], status="inactive"),
        case("entered in error", [UNCLEAR, VOID], status="entered-in-error"),
    ],
)  # fmt: skip
def test_what_is_denied_or_ended_without_a_doubt_is_so_all_the_same(fields: Json, expected: list[Says]) -> None:
    facts = consent(a_document(decision="permit", **fields), around(), PURPOSES)
    assert [fact.says for fact in facts] == expected
