"""The source document of a FHIR Consent: the form that it names, whether it is in force, and that there is one."""

import json
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from fhir_consents import CALLED, MODIFIER, PURPOSES, a_document, a_provision, coded, places, with_
from hospital_files import by_identifier, debug_log, decide, ndjson, payloads, permit, records

from pipelines import policy as policies
from pipelines.simulated import feeds
from schemas.event import Consent, Says
from schemas.instant import DAY, FOREVER
from schemas.outcome import Reason
from schemas.policy import Policy
from transforms.rules import hl7_events
from transforms.rules.consent_forms import Form, Profile
from transforms.rules.consent_forms import profile as profile_of
from transforms.rules.envelope import Envelopes
from transforms.rules.reading import Reading

PERMIT, DENY, ENDS, VOID, UNCLEAR, NOTHING = (
    Says.PERMIT, Says.DENY, Says.ENDS, Says.VOID, Says.UNCLEAR, Says.NOTHING,
)  # fmt: skip
Json = dict[str, Any]
ONE = Form(("PATSUPPORT",), ("Organization/crm",), ("disclose",), None, 365 * DAY)
OTHER = Form(("HMARKT",), (), (), None, FOREVER)
URL = "https://forms.example/Questionnaire/support"
FORMS = {"urn:f|one": ONE, f"{URL}|2": ONE, f"urn:canonical|{URL}": ONE, "urn:f|other": OTHER}


def named(code: str, system: str = "urn:f") -> Json:
    return {"coding": [{"system": system, "code": code}]}


def a_scan(**fields: Any) -> Json:
    """A DocumentReference in force that names form one; a field of None is left out."""
    return without_none(
        {"resourceType": "DocumentReference", "id": "d", "status": "current", "type": named("one"), **fields}
    )


def answers(**fields: Any) -> Json:
    """A QuestionnaireResponse to form one."""
    form = {"resourceType": "QuestionnaireResponse", "id": "d", "status": "completed", "questionnaire": f"{URL}|2"}
    return without_none({**form, **fields})


def a_contract(**fields: Any) -> Json:
    return without_none(
        {"resourceType": "Contract", "id": "d", "status": "executed", "subType": [named("one")], **fields}
    )


def an_earlier(**fields: Any) -> Json:
    """A Consent that names form one, as the source of another."""
    whole = a_document(id="d", meta=None, category=[named("one")], provision=None)
    return without_none({**whole, **fields})


def without_none(fields: Json) -> Json:
    return {name: value for name, value in fields.items() if value is not None}


def signed(reference: str | Json = "DocumentReference/d", **fields: Any) -> Json:
    """A Consent that names its form by its source alone."""
    referred = {"reference": reference} if isinstance(reference, str) else reference
    return a_document(**{"provision": None, "sourceReference": referred, **fields})


def bundle(*resources: Json, url: str = "") -> Json:
    entries = [{**({"fullUrl": url} if url and n else {}), "resource": one} for n, one in enumerate(resources)]
    return {"resourceType": "Bundle", "type": "collection", "entry": entries}


def read(document: Json, **profile: Any) -> list[Consent]:
    """The facts of Consent c1, alone or in a Bundle."""
    reading = Reading("ehr", "UTF-8", UTC, ("MR", ""), consents=Profile(forms=FORMS, **profile))
    opened = Envelopes(reading, PURPOSES, hl7_events.read).document(json.dumps(document).encode())
    facts = [fact for one in opened for fact in one.facts if isinstance(fact, Consent)]
    return [fact for fact in facts if fact.consent == "ehr|Consent/c1"]


def said(document: Json, **profile: Any) -> Says:
    return read(document, **profile)[0].says


def case(name: str, *values: Any) -> object:
    return pytest.param(*values, id=name)


# --- which form it is ----------------------------------------------------------------------------------------------

SOURCES = [
    case("scan, by type", a_scan()),
    case("scan, by category", a_scan(type=None, category=[named("x"), named("one")])),
    case("answers, of a version", answers()),
    case("answers, amended", answers(status="amended")),
    case("answers, of no version", answers(questionnaire=URL)),
    case("contract, by subType", a_contract()),
    case("contract, by type", a_contract(subType=None, type=named("one"))),
    case("consent, by category", an_earlier()),
    case("consent, by policyRule", an_earlier(category=None, policyRule=named("one"))),
]


@pytest.mark.parametrize("document", SOURCES)
def test_a_form_named_by_a_document_that_came_along(document: Json) -> None:
    referred = f"{document['resourceType']}/d"
    in_bundle = read(bundle(signed(referred), document))[0]
    before_it = read(bundle(document, signed(referred)))[0]
    in_itself = read(signed("#d", contained=[document]))[0]
    by_url = read(bundle(signed("urn:uuid:1"), {**document, "id": "e"}, url="urn:uuid:1"))[0]
    by_category = read(a_document(provision=None, category=[named("one")]))[0]
    assert by_category.says is PERMIT and by_category.purposes == ("PATSUPPORT",)
    assert in_bundle == before_it == in_itself == by_url == by_category


@pytest.mark.parametrize(
    ("document", "reference"),
    [
        case("of another version", answers(questionnaire=f"{URL}|3"), "QuestionnaireResponse/d"),
        case("of a form that is not listed", a_scan(type=named("two")), "DocumentReference/d"),
        case("of no form", a_scan(type=None), "DocumentReference/d"),
        case("another one", a_scan(), "DocumentReference/e"),
        case("of another server", a_scan(), "https://elsewhere.example/DocumentReference/d"),
    ],
)
def test_a_document_that_names_no_form_grounds_nothing(document: Json, reference: str) -> None:
    assert said(bundle(signed(reference), document)) is UNCLEAR  # for want of criteria
    permitted = signed(reference, provision=a_provision())
    assert read(bundle(permitted, document)) == read(permitted)  # and takes nothing from those that are there
    assert said(permitted) is PERMIT


def test_a_document_that_did_not_come_along_says_nothing() -> None:
    plain = read(a_document())
    for reference in (
        "DocumentReference/d", "Contract/d/_history/3", "https://ehr.example/fhir/QuestionnaireResponse/d",
        "DocumentReference?identifier=urn:x|1", "urn:uuid:0",
    ):  # fmt: skip
        assert read(signed(reference, provision=a_provision())) == plain
    assert read(signed({"identifier": {"value": "7"}}, provision=a_provision())) == plain
    assert read(signed({"display": "see file"}, provision=a_provision())) == plain


def test_criteria_come_before_the_form() -> None:
    """As with a category: a document that carries criteria means what it says."""
    fact = read(bundle(signed(provision=a_provision(purpose=[PURPOSE])), a_scan()))[0]
    assert (fact.says, fact.purposes, fact.end) == (PERMIT, ("HMARKT",), FOREVER)


PURPOSE = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HMARKT"}


@pytest.mark.parametrize(
    ("fields", "document"),
    [
        case("two forms, one of each", {"category": [named("other")]}, a_scan()),
        case("two forms in the source", {}, a_scan(category=[named("other")])),
        case("two forms beside criteria", {"category": [named("other")], "provision": a_provision()}, a_scan()),
        case("opted out", {"provision": a_provision()}, a_scan(type=coded("v3-ActCode", "OPTOUT"))),
        case("opted out, and a form", {}, a_scan(category=[coded("v3-ActCode", "OPTOUTE")])),
        case("no consent", {"provision": a_provision()}, a_contract(type=coded("v3-ActCode", "NOCONSENT"))),
        case("an earlier denial", {}, an_earlier(provision={"type": "deny"})),
    ],
)
def test_what_contradicts_the_permit_is_unclear(fields: Json, document: Json) -> None:
    assert said(bundle(signed(f"{document['resourceType']}/d", **fields), document)) is UNCLEAR


def test_the_base_denial_of_an_earlier_consent_is_no_contradiction() -> None:
    both = bundle(
        signed("Consent/d", category=[named("one")]),
        an_earlier(provision={"type": "deny", "provision": [{"type": "permit"}]}),
    )
    assert said(both, root="root-is-base-deny") is PERMIT
    assert said(both) is UNCLEAR


# --- whether it is in force ----------------------------------------------------------------------------------------

IN_FORCE = {
    "DocumentReference": {"current"},
    "QuestionnaireResponse": {"completed", "amended"},
    "Contract": {"executed", "amended", "appended", "resolved"},
    "Consent": {"active"},
}
WORDS = """current superseded entered-in-error in-progress completed amended stopped appended cancelled disputed
    executable executed negotiable offered policy rejected renewed revoked resolved terminated draft proposed active
    inactive preliminary final unknown Current""".split()


@pytest.mark.parametrize("document", [a_scan(), answers(), a_contract(), an_earlier()], ids=list(IN_FORCE))
def test_only_what_is_surely_in_force_grounds(document: Json) -> None:
    kind = document["resourceType"]
    for status in (*WORDS, None, 1, ["current"], {}):
        stated = without_none({**document, "status": status})
        expected = PERMIT if isinstance(status, str) and status in IN_FORCE[kind] else UNCLEAR
        for criteria in (None, a_provision()):
            assert said(bundle(signed(f"{kind}/d", provision=criteria), stated)) is expected, status
            assert said(signed("#d", contained=[stated], provision=criteria)) is expected, status


def test_the_text_of_a_document_must_be_settled() -> None:
    found = {word: said(bundle(signed(), a_scan(docStatus=word))) for word in (*WORDS, None)}
    assert {word for word, says in found.items() if says is PERMIT} == {"final", "amended", None}
    assert set(found.values()) == {PERMIT, UNCLEAR}


UNSOUND = [
    case("modified", a_scan(modifierExtension=MODIFIER)),
    case("modified deep down", answers(item=[{"linkId": "1", "answer": [{"modifierExtension": MODIFIER}]}])),
    case("of rules that nobody knows", a_scan(implicitRules="urn:x")),
    case("of somebody else", a_scan(subject={"reference": "Patient/8"})),
    case("of somebody else, by identifier", answers(subject={"identifier": {"system": "urn:x", "value": "8"}})),
    case("of a group", a_scan(subject={"reference": "Group/7"})),
    case("of two, this patient one of them",
         a_contract(subject=[{"reference": "Patient/7"}, {"reference": "Patient/8"}])),
    case("a consent of somebody else", an_earlier(patient={"reference": "Patient/8"})),
    case("a consent of another release", an_earlier(decision="permit")),
    case("a type that is none", a_scan(type="one")),
    case("a questionnaire that is no text", answers(questionnaire={"reference": URL})),
    case("an empty element", a_scan(category=[])),
    case("a null element", {**a_scan(), "docStatus": None}),
    case("an empty subject", a_scan(subject={})),
]  # fmt: skip


@pytest.mark.parametrize("document", UNSOUND)
def test_what_is_not_sound_grounds_nothing(document: Json) -> None:
    referred = signed(f"{document['resourceType']}/d", provision=a_provision())
    assert said(bundle(referred, document)) is UNCLEAR
    assert said({**referred, "sourceReference": {"reference": "#d"}, "contained": [document]}) is UNCLEAR
    assert said(bundle(referred, {**document, "id": "e"})) is PERMIT  # it is not about this one


def test_a_modifier_of_the_bundle_s_entry_counts() -> None:
    whole = bundle(signed(), a_scan())
    assert said(whole) is PERMIT
    whole["entry"][1]["modifierExtension"] = MODIFIER
    assert said(whole) is UNCLEAR


def test_of_this_patient_by_any_name() -> None:
    for subject in ({"reference": "Patient/7"}, {"reference": "https://x/Patient/7"}):
        consented = signed(patient=subject, provision=a_provision())
        assert said(bundle(consented, a_scan(subject=subject))) is PERMIT
    known = {"resourceType": "Patient", "id": "7", "identifier": [{"system": "urn:m", "value": "1"}]}
    by_number = a_scan(subject={"identifier": {"system": "urn:m", "value": "1"}})
    assert said(bundle(signed(), by_number, known)) is PERMIT
    assert said(bundle(signed(), by_number)) is UNCLEAR  # who may or may not be the same


def test_what_each_document_contains_is_its_own() -> None:
    """`#p` of the scan is not `#p` of the Consent."""
    us, them = ({"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:m", "value": v}]} for v in "12")
    inside = signed(patient={"reference": "#p"}, contained=[us])
    for theirs in ([us], [them], None):  # not even where both are this patient: nobody follows it
        assert said(bundle(inside, a_scan(subject={"reference": "#p"}, contained=theirs))) is UNCLEAR
    own = signed("#d", patient={"reference": "#p"}, contained=[us, a_scan(subject={"reference": "#p"})])
    assert said(own) is PERMIT
    assert said(own | {"contained": [us, {**them, "id": "q"}, a_scan(subject={"reference": "#q"})]}) is UNCLEAR


@pytest.mark.parametrize(
    ("reference", "around"),
    [
        case("two of one name", "DocumentReference/d", [a_scan(), a_scan(description="another")]),
        case("of the same name twice", "DocumentReference/d", [a_scan(), a_scan()]),
        case("another version", "DocumentReference/d/_history/2", [a_scan(meta={"versionId": "3"})]),
        case("a version, of no version", "DocumentReference/d/_history/2", [a_scan()]),
        case("not contained", "#d", [a_scan()]),
        case("itself", "Consent/c1", []),
        case("a type that no source has", "Binary/d", []),
        case("no reference", "https://files.example/scan.pdf", []),
        case("its type says otherwise", {"reference": "DocumentReference/d", "type": "Contract"}, [a_scan()]),
        case("of a type that no source has", {"identifier": {"value": "7"}, "type": "Media"}, []),
        case("unreadable", {"reference": 7}, [a_scan()]),
        case("a text", "DocumentReference/d", [a_scan(status="superseded")]),
    ],
)
def test_a_reference_that_is_not_understood(reference: str | Json, around: list[Json]) -> None:
    assert said(bundle(signed(reference, provision=a_provision()), *around)) is UNCLEAR
    denied = signed(reference, provision=a_provision(type="deny", purpose=None))
    assert said(bundle(denied, *around)) is DENY


def test_no_consent_is_its_own_source() -> None:
    for reference in ("Consent/c1", "https://ehr.example/fhir/Consent/c1", "Consent/c1/_history/1"):
        assert said(signed(reference, provision=a_provision())) is UNCLEAR
    whole = bundle(signed("urn:uuid:1", provision=a_provision()))
    whole["entry"][0]["fullUrl"] = "urn:uuid:1"
    assert said(whole) is UNCLEAR


@pytest.mark.parametrize(
    ("reference", "url"),
    [
        ({"reference": "urn:uuid:1", "type": "Contract"}, "urn:uuid:1"),
        ({"reference": "https://ehr.example/Contract/d"}, "https://ehr.example/Contract/d"),
    ],
)
def test_what_is_found_is_of_the_type_that_was_named(reference: Json, url: str) -> None:
    assert said(bundle(signed(reference), a_contract(), url=url)) is PERMIT
    assert said(bundle(signed(reference), a_scan(), url=url)) is UNCLEAR


def test_the_version_that_was_meant() -> None:
    assert said(bundle(signed("DocumentReference/d/_history/2"), a_scan(meta={"versionId": "2"}))) is PERMIT


def test_a_choice_has_one_value() -> None:
    attached = {"data": "eA=="}
    assert said(a_document(sourceAttachment=attached)) is PERMIT
    assert said(a_document(sourceAttachment=attached, sourceReference={"reference": "Contract/1"})) is UNCLEAR


@pytest.mark.parametrize("part", [path for path, one in places(CALLED) if isinstance(one, dict)], ids=str)
def test_each_element_of_a_reference_is_understood(part: tuple[str | int, ...]) -> None:
    known = signed({**CALLED, "reference": "DocumentReference/1", "type": "DocumentReference"})
    known["provision"] = a_provision()
    assert said(known) is PERMIT
    assert said(with_(known, ("sourceReference", *part, "unheard-of"), MODIFIER)) is UNCLEAR


def test_what_a_consent_contains_may_be_anything() -> None:
    """Of a broken resource a Consent still says what it says."""
    denied = signed("#d", provision=a_provision(type="deny", purpose=None))
    for broken in (
        {"resourceType": {"x": "y"}, "id": "d"},
        {"resourceType": ["Consent"], "id": "d"},
        {"id": ["d"]},
        {},
    ):
        assert said(denied | {"contained": [broken]}) in (DENY, UNCLEAR)
        assert read(denied | {"contained": [broken]})[-1].says is DENY
    for element in ("status", "docStatus", "type", "category", "subject", "meta", "contained"):
        for value in (None, "", 7, "x", [], {}, ["x"], {"x": 7}, [{"coding": "x"}], [[]]):
            for document in (a_scan(), a_contract(), answers(), an_earlier()):
                named = f"{document['resourceType']}/d"
                assert (
                    said(bundle(denied | {"sourceReference": {"reference": named}}, {**document, element: value}))
                    is DENY
                )


# --- what it never does --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("document", [*UNSOUND, case("superseded", a_scan(status="superseded"))])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("rejected", {"status": "rejected"}, DENY),
        case("denied", {"provision": {"type": "deny"}}, DENY),
        case("inactive", {"status": "inactive"}, ENDS),
        case("entered in error", {"status": "entered-in-error"}, VOID),
        case("draft", {"status": "draft"}, NOTHING),
    ],
)
def test_no_source_lifts_or_narrows_what_a_consent_takes_back(fields: Json, expected: Says, document: Json) -> None:
    taken_back = signed(f"{document['resourceType']}/d", **fields)
    assert read(bundle(taken_back, document)) == read(taken_back)
    assert said(taken_back) is expected and read(taken_back)[0].purposes == ()


def test_a_sound_source_says_which_form_was_refused() -> None:
    """As a category does: what is refused is that form."""
    assert read(bundle(signed(status="rejected"), a_scan()))[0].purposes == ("PATSUPPORT",)
    refused = {"status": "rejected", "category": [named("one")]}
    for scan in (a_scan(), a_scan(status="superseded")):
        assert read(bundle(signed(**refused), scan))[0].purposes == ("PATSUPPORT",)
        assert read(bundle(signed(**refused), {**scan, "type": named("other")}))[0].purposes == ()


def test_the_denials_within_an_unclear_permit_stand() -> None:
    nested = a_provision(provision=[{"type": "deny", "code": [coded("x", "y")]}])
    facts = read(bundle(signed(provision=nested), a_scan(status="superseded")))
    assert [fact.says for fact in facts] == [UNCLEAR, DENY]


def test_with_and_without_the_document_is_one_version() -> None:
    """Copies of one version are equal unless the document changes what the Consent says."""
    telling, silent = signed(category=[named("one")]), signed()
    for document in (a_scan(), a_scan(type=None), a_scan(content=[{"attachment": {"data": "eA=="}}])):
        assert read(bundle(telling, document)) == read(telling)
    with_it, without = read(bundle(silent, a_scan()))[0], read(silent)[0]
    assert with_it.key == without.key and with_it.what != without.what


# --- where the profile wants a document ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("none", {}, NOTHING),
        case("a scan", {"sourceAttachment": {"contentType": "image/png", "data": "eA=="}}, PERMIT),
        case("where it lies", {"sourceAttachment": {"url": "https://files.example/1"}}, PERMIT),
        case("its hash", {"sourceAttachment": {"hash": "eA=="}}, PERMIT),
        case("a title alone", {"sourceAttachment": {"title": "The form", "creation": "2024-05-01"}}, NOTHING),
        case("a reference", {"sourceReference": {"reference": "DocumentReference/d"}}, PERMIT),
        case("an address", {"sourceReference": {"reference": "https://ehr.example/fhir/Contract/d"}}, PERMIT),
        case("an identifier", {"sourceReference": {"identifier": {"system": "urn:x", "value": "7"}}}, PERMIT),
        case("a display alone", {"sourceReference": {"display": "the form"}}, NOTHING),
        case("an identifier of nothing", {"sourceReference": {"identifier": {"system": "urn:x"}}}, NOTHING),
        case("what only a message could resolve", {"sourceReference": {"reference": "urn:uuid:1"}}, NOTHING),
        case("contained", {"sourceReference": {"reference": "#d"}, "contained": [a_scan()]}, PERMIT),
        case("contained, superseded",
             {"sourceReference": {"reference": "#d"}, "contained": [a_scan(status="superseded")]}, UNCLEAR),
        case("what was rejected stays so", {"status": "rejected"}, DENY),
        case("what is not understood stays so", {"status": "on-hold"}, UNCLEAR),
    ],
)  # fmt: skip
def test_a_permit_must_name_its_document(fields: Json, expected: Says) -> None:
    assert said(a_document(**fields), documented=True) is expected
    if expected is NOTHING:
        assert said(a_document(**fields)) is PERMIT


def test_the_document_and_the_verification_are_both_wanted() -> None:
    attached, verified = {"sourceAttachment": {"url": "urn:x"}}, {"verification": [{"verified": True}]}
    for fields, expected in ((attached, NOTHING), (verified, NOTHING), (attached | verified, PERMIT)):
        assert said(a_document(**fields), documented=True, verified=True) is expected


def test_what_is_denied_beside_the_permit_stands_without_a_document() -> None:
    nested = a_provision(provision=[{"type": "deny", "code": [coded("x", "y")]}])
    assert [fact.says for fact in read(a_document(provision=nested), documented=True)] == [NOTHING, DENY]


def test_the_policy_says_whether_it_is_wanted(policy: Policy) -> None:
    source = policy.source.model_copy(update={"consent_document": True})
    assert profile_of(policy.model_copy(update={"source": source})).documented
    assert not profile_of(policy).documented


# --- through the whole job -----------------------------------------------------------------------------------------

WHO = by_identifier(feeds.SYSTEM, "S1")
SUPPORT = named("patient-support", "urn:limen:form")
MARK, MARK_IN_BASE64 = "zqSourceCanary", "enFTb3VyY2VDYW5hcnk"


def visit() -> Json:
    return {
        "resourceType": "Encounter", "id": "e", "status": "finished", "period": {"end": "2026-03-01T08:00:00Z"},
        "subject": WHO,
    }  # fmt: skip


def outcome(folder: Path, *resources: Json, policy: Path | None = None) -> tuple[int, set[tuple[str, str]]]:
    """How many payloads left, and the verdicts on the routes that need a permit, with their reasons."""
    folder.mkdir(exist_ok=True)
    ndjson(folder / "in" / "b.ndjson", [visit(), bundle(*resources)])
    decide([folder / "in"], folder / "out", folder / "state", policy=policy)
    told = {
        (one["verdict"], one["reason"])
        for one in records(folder / "out")
        if one["route"] in ("patient-support", "hcp-notification")
    }
    return len(payloads(folder / "out")), told


def form_by_source(**fields: Any) -> Json:
    own = permit(WHO, dateTime="2026-02-01T00:00:00Z", category=None, policyRule=None, provision=None)
    return without_none({**own, "sourceReference": {"reference": "DocumentReference/d"}, **fields})


def test_a_run_reads_the_form_off_the_document_that_came_along(tmp_path: Path) -> None:
    count, told = outcome(tmp_path, form_by_source(), a_scan(type=SUPPORT, subject=WHO))
    assert count == 2 and ("released", "permitted") in told


@pytest.mark.parametrize("fields", [{"status": "entered-in-error"}, {"docStatus": "preliminary"}])
def test_a_run_sends_a_consent_whose_document_is_void_to_review(tmp_path: Path, fields: Json) -> None:
    count, told = outcome(tmp_path, form_by_source(), a_scan(type=SUPPORT, **fields))
    assert count == 0 and told == {("review", "consent_unclear")}


def test_a_run_under_a_policy_that_wants_the_document(tmp_path: Path) -> None:
    policy = tmp_path / "policy"
    for file in policies.default().rglob("*.yaml"):
        copy = policy / file.relative_to(policies.default())
        copy.parent.mkdir(parents=True, exist_ok=True)
        text = file.read_text()
        copy.write_text(text.replace("\n  consent_profile:", "\n  consent_document: true\n  consent_profile:"))
    unnamed = permit(WHO)
    count, told = outcome(tmp_path / "none", unnamed, policy=policy)
    assert count == 0 and told == {("suppressed", Reason.NO_CONSENT)}
    count, told = outcome(tmp_path / "one", {**unnamed, "sourceAttachment": {"url": "urn:x"}}, policy=policy)
    assert count == 2 and ("released", "permitted") in told


def test_nothing_of_the_document_leaves_it(tmp_path: Path) -> None:
    attached = {
        "data": f"{MARK_IN_BASE64}=",
        "url": f"https://{MARK}",
        "title": MARK,
        "hash": f"{MARK_IN_BASE64}=",
    }
    scan = a_scan(type=SUPPORT, description=MARK, identifier=[{"value": MARK}], content=[{"attachment": attached}])
    consents = [form_by_source(), permit(WHO, "c2", sourceAttachment=attached)]
    with debug_log() as log:
        count, _ = outcome(tmp_path, *consents, scan)
    assert count == 2
    left = [path for path in tmp_path.rglob("*") if path.is_file() and "in" not in path.relative_to(tmp_path).parts]
    assert len(left) > 5
    kept = ["\n".join(log).encode(), *(path.read_bytes() + str(path).encode() for path in left)]
    assert not [one for one in kept for spelling in (MARK.encode(), MARK_IN_BASE64.encode()) if spelling in one]
