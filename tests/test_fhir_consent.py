"""FHIR Consent to a consent fact: what its status, rules, criteria and dates come to, and that what is not understood
never permits."""

from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import msgspec
import pytest
from builders import at
from fhir_consents import MODIFIER, PURPOSES, Json, a_document, a_provision, an_actor, around, case, coded, read
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import MessageError
from schemas.event import Consent, Says
from schemas.instant import BEGINNING, DAY, FOREVER, SECOND, from_fhir
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from transforms.decode import reader
from transforms.rules.consent import decide, standing
from transforms.rules.consent_forms import Profile
from transforms.rules.fhir_consent import consent
from transforms.rules.fhir_criteria import PURPOSES_OF_USE, UNMARKED, Provision, classes
from transforms.rules.fhir_parts import Around, Coding
from transforms.rules.identity import patient_key
from transforms.rules.reading import Reading
from transforms.rules.routing import rules
from transforms.rules.sensitivity import CONFIDENTIALITY, Sensitivity

PERMIT, DENY, ENDS, VOID, UNCLEAR, NOTHING = (
    Says.PERMIT, Says.DENY, Says.ENDS, Says.VOID, Says.UNCLEAR, Says.NOTHING,
)  # fmt: skip


def instant(text: str) -> int:
    found = from_fhir(text)
    assert found is not None
    return found.time


def test_a_permit_is_read_whole() -> None:
    period = {"start": "2024-05-02", "end": "2024-06-01"}
    data = {"start": "2024-05-03T00:00:00Z", "end": "2024-05-31"}
    fact = read(a_document(provision=a_provision(period=period, dataPeriod=data)))
    assert fact.says is PERMIT
    assert fact.given == fact.said == instant("2024-05-01T10:00:00Z")
    assert (fact.start, fact.end) == (instant("2024-05-02"), instant("2024-06-02"))
    assert (fact.data_start, fact.data_end) == (instant("2024-05-03"), instant("2024-06-01"))
    assert (fact.scope, fact.purposes, fact.actions, fact.recipients) == (
        "patient-privacy", ("PATSUPPORT",), ("disclose",), ("Organization/crm",),
    )  # fmt: skip
    assert (fact.patient, fact.consent, fact.version) == (patient_key("ehr", "Patient/7"), "ehr|Consent/c1", (1, 0, ""))


# --- what a version means ------------------------------------------------------------------------------------------

MAY = instant("2024-05-01")
WHY_NOT = [{"url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown"}]
NESTED = [{"type": "permit"}]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("active permit", PERMIT),
        case("active denial", DENY, provision=a_provision(type="deny")),
        case("inactive", ENDS, status="inactive"),
        case("inactive, its provision unreadable", ENDS, status="inactive", provision=a_provision(type="Permit")),
        case("entered in error", VOID, status="entered-in-error"),
        case("rejected", DENY, status="rejected"),
        case("rejected, without a provision", DENY, status="rejected", provision=None),
        case("rejected, its provision unreadable", UNCLEAR, status="rejected", provision=a_provision(code=[])),
        case("draft", NOTHING, status="draft"),
        case("proposed", NOTHING, status="proposed"),
        case("of another status", UNCLEAR, status="on-hold"),
        case("without a status", UNCLEAR, status=None),
        case("without a provision", UNCLEAR, provision=None),
        case("a provision without a type", UNCLEAR, provision=a_provision(type=None)),
        case("a provision of another type", UNCLEAR, provision=a_provision(type="Permit")),
        case("opted out beside a permit", UNCLEAR, policyRule=coded("v3-ActCode", "OPTOUT")),
        case("opted out by its category", UNCLEAR, category=[coded("v3-ActCode", "OPTOUT")]),
        case("for emergencies alone, by its category", UNCLEAR,
             category=[coded("consentcategorycodes", "acd"), coded("consentcategorycodes", "emrgonly")]),
        case("opted out beside a denial", DENY,
             policyRule=coded("v3-ActCode", "OPTOUT"), provision=a_provision(type="deny")),
        case("opted out without a provision", UNCLEAR, policyRule=coded("v3-ActCode", "OPTOUT"), provision=None),
        case("opted in beside a permit", PERMIT, policyRule=coded("v3-ActCode", "OPTIN")),
        case("opted in is no permit", UNCLEAR,
             policyRule=coded("v3-ActCode", "OPTIN"), provision=a_provision(type=None)),
        case("a permit below a denial", UNCLEAR, provision=a_provision(type="deny", provision=NESTED)),
        case("an exception that leaves nothing of the permit", UNCLEAR,
             provision=a_provision(provision=[{"type": "deny"}])),
        case("an exception to a permit", PERMIT,
             provision=a_provision(provision=[{"type": "deny", "code": [coded("x", "y")]}])),
        case("a rule of no type below a permit", UNCLEAR, provision=a_provision(provision=[{}])),
        case("an empty list of rules below", UNCLEAR, provision=a_provision(provision=[])),
        case("narrowed by class", PERMIT,
             provision=a_provision(**{"class": [{"system": "urn:ietf:bcp:13", "code": "application/hl7-v3"}]})),
        case("narrowed by code", PERMIT, provision=a_provision(code=[coded("x", "y")])),
        case("narrowed by security label", PERMIT, provision=a_provision(securityLabel=[{"code": "PSY"}])),
        case("narrowed by data", PERMIT,
             provision=a_provision(data=[{"meaning": "instance", "reference": {"reference": "Task/1"}}])),
        case("a denial narrowed by code", DENY, provision=a_provision(type="deny", code=[coded("x", "y")])),
        case("a modifier", UNCLEAR, modifierExtension=MODIFIER),
        case("a modifier of an ending", UNCLEAR, status="inactive", modifierExtension=MODIFIER),
        case("a modifier of the provision", UNCLEAR, provision=a_provision(modifierExtension=MODIFIER)),
        case("a modifier of the actor", UNCLEAR,
             provision=a_provision(actor=[an_actor(modifierExtension=MODIFIER)])),
        case("a modifier of the policy", UNCLEAR, policy=[{"uri": "urn:x", "modifierExtension": MODIFIER}]),
        case("a modifier of the verification", UNCLEAR,
             verification=[{"verified": False, "modifierExtension": MODIFIER}]),
        case("rules that its reader must know", UNCLEAR, implicitRules="urn:example:rules"),
        case("an extension is no modifier", PERMIT, extension=MODIFIER),
    ],
)  # fmt: skip
def test_what_a_version_means(fields: Json, expected: Says) -> None:
    assert read(a_document(**fields)).says is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("an unknown purpose", UNCLEAR, purpose=[{"system": "urn:limen:purpose", "code": "WHATEVER"}]),
        case("a purpose of an unknown system", UNCLEAR, purpose=[{"system": "urn:x", "code": "PATSUPPORT"}]),
        case("a purpose without a system", UNCLEAR, purpose=[{"code": "PATSUPPORT"}]),
        case("one unknown purpose of two", UNCLEAR,
             purpose=[{"system": "urn:limen:purpose", "code": "PATSUPPORT"}, {"system": "urn:x", "code": "Y"}]),
        case("an unknown action", UNCLEAR, action=[coded("consentaction", "sell")]),
        case("an action of an unknown system", UNCLEAR, action=[coded("x", "disclose")]),
        case("an action in words", UNCLEAR, action=[{"text": "disclose"}]),
        case("one unknown action of two", UNCLEAR,
             action=[coded("consentaction", "disclose"), coded("consentaction", "sell")]),
        case("an unknown role", UNCLEAR, actor=[an_actor(role="XYZ")]),
        case("a role of an unknown system", UNCLEAR, actor=[an_actor() | {"role": coded("x", "PRCP")}]),
        case("an actor without a role", UNCLEAR, actor=[{"reference": {"reference": "Organization/crm"}}]),
        case("an actor of another type than its reference says", UNCLEAR,
             actor=[an_actor({"reference": "Organization/crm", "type": "Practitioner"})]),
        case("an actor without a reference", UNCLEAR, actor=[{"role": coded("v3-ParticipationType", "PRCP")}]),
        case("an actor by its display", UNCLEAR, actor=[an_actor({"display": "The CRM"})]),
        case("an actor by a contained resource", UNCLEAR, actor=[an_actor("#crm")]),
        case("an actor by an id of its own", UNCLEAR, actor=[an_actor("urn:uuid:420902eb-4805-461a")]),
        case("an actor by a search", UNCLEAR, actor=[an_actor("Organization?identifier=urn:limen:organization|crm")]),
        case("an actor by an identifier without a system", UNCLEAR, actor=[an_actor({"identifier": {"value": "crm"}})]),
        case("a purpose of use under our own system", UNCLEAR,
             purpose=[{"system": "urn:limen:purpose", "code": "TREAT"}]),
        case("one of ours under the system of purposes of use", UNCLEAR,
             purpose=coded("v3-ActReason", "PATSUPPORT")["coding"]),
        case("a period without a border", UNCLEAR, period={"extension": WHY_NOT}),
        case("a data period without a border", UNCLEAR, dataPeriod={"extension": WHY_NOT}),
        case("an unreadable period", UNCLEAR, period={"start": "2024-13"}),
        case("an unreadable end", UNCLEAR, period={"end": "2024-05-40"}),
        case("an unreadable data period", UNCLEAR, dataPeriod={"end": "2024-5"}),
        case("no purpose, action or actor", PERMIT, purpose=None, action=None, actor=None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("rule", ["permit", "deny"])
def test_a_criterion_that_is_not_understood(fields: Json, expected: Says, rule: str) -> None:
    says = read(a_document(provision=a_provision(type=rule, **fields))).says
    assert says is (DENY if expected is PERMIT and rule == "deny" else expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("none", "", scope=None),
        case("research", "research", scope=coded("consentscope", "research")),
        case("of an unknown code", UNCLEAR, scope=coded("consentscope", "x")),
        case("of an unknown system", UNCLEAR, scope=coded("x", "patient-privacy")),
        case("two at once", UNCLEAR, scope=coded("consentscope", "research", "patient-privacy")),
        case("in words", UNCLEAR, scope={"text": "privacy"}),
    ],
)  # fmt: skip
def test_its_scope(fields: Json, expected: str | Says) -> None:
    fact = read(a_document(**fields))
    assert expected in (fact.scope, fact.says)
    assert (fact.says is PERMIT) == (expected is not UNCLEAR)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("a reference", ("Organization/crm",), actor=[an_actor()]),
        case("a reference to a version of it", ("Organization/crm",), actor=[an_actor("Organization/crm/_history/3")]),
        case("an absolute reference keeps its base", ("https://a.example/fhir/Organization/crm",),
             actor=[an_actor("https://a.example/fhir/Organization/crm")]),
        case("an identifier", ("urn:limen:organization|crm",),
             actor=[an_actor({"identifier": {"system": "urn:limen:organization", "value": "crm"}})]),
        case("both", ("Organization/crm\x1furn:x|crm",),
             actor=[an_actor({"reference": "Organization/crm", "identifier": {"system": "urn:x", "value": "crm"}})]),
        case("in another role", ("?Organization/crm",), actor=[an_actor(role="CST")]),
        case("two actors", ("?Organization/hospital", "Organization/crm"),
             actor=[an_actor(), an_actor("Organization/hospital", "CST")]),
        case("none", (), actor=None),
    ],
)  # fmt: skip
def test_its_recipients(fields: Json, expected: tuple[str, ...]) -> None:
    fact = read(a_document(provision=a_provision(**fields)))
    assert (fact.says, fact.recipients) == (PERMIT, expected)


@pytest.mark.parametrize("profile", ["root-is-rule", "root-is-context"])
@pytest.mark.parametrize(
    ("period", "expected"),
    [({"start": "2024-05-01"}, MAY), ({"start": "24"}, BEGINNING)],
    ids=["within its root's period", "its root's period is unreadable"],
)
def test_beneath_a_denial_that_contradicts_itself_a_denial_stands(period: Json, expected: int, profile: str) -> None:
    root = {"type": "deny", "period": period, "provision": [a_provision(), {"type": "deny"}]}
    meant = Around(Reading("ehr", "UTF-8", UTC, ("MR", ""), consents=Profile(profile)))
    first, denial = consent(a_document(provision=root), meant, PURPOSES)
    assert (first.says, denial.says, denial.start) == (UNCLEAR, DENY, expected)


def test_normal_confidentiality_is_for_the_unmarked_unless_the_policy_says_what_it_marks() -> None:
    def named(code: str, known: Sensitivity) -> tuple[str, ...] | None:
        return classes(Provision(securityLabel=[Coding(CONFIDENTIALITY, code)]), known, denies=False)

    marks = Sensitivity({(CONFIDENTIALITY, "N"): ("vip",), (CONFIDENTIALITY, "R"): ("restricted",)})
    assert (named("N", Sensitivity()), named("R", Sensitivity())) == (UNMARKED, ())
    assert (named("N", marks), named("L", marks), named("R", marks)) == (("vip",), UNMARKED, ())


def test_each_purpose_of_the_default_policy_has_one_system(policy: Policy) -> None:
    assert policy.purposes.keys() - PURPOSES_OF_USE == {"PATSUPPORT", "HCPVISIBLE"}
    named = a_document(provision=a_provision(purpose=[{"system": "urn:limen:purpose", "code": "SAMPLES"}]))
    assert consent(named, around(), {"SAMPLES": ()})[0].says is PERMIT, "a policy may have more of its own"


# --- when ----------------------------------------------------------------------------------------------------------

UPDATED = {"versionId": "1", "lastUpdated": "2024-06-01T00:00:00Z"}
JUNE = instant("2024-06-01")
YEAR = instant("2024-01-01")


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("an instant", (PERMIT, MAY, MAY), dateTime="2024-05-01T00:00:00Z"),
        case("an offset", (PERMIT, MAY, MAY), dateTime="2024-05-01T02:00:00+02:00"),
        case("a date is all of its day", (PERMIT, MAY, MAY + DAY - 1), dateTime="2024-05-01"),
        case("a permit without a date", (UNCLEAR, BEGINNING, FOREVER), dateTime=None),
        case("a month is all of it", (PERMIT, MAY, MAY + 31 * DAY - 1), dateTime="2024-05"),
        case("a year is all of it", (PERMIT, YEAR, YEAR + 366 * DAY - 1), dateTime="2024"),
        case("a permit of no month", (UNCLEAR, BEGINNING, FOREVER), dateTime="2024-13"),
        case("a server's touch dates no permit", (UNCLEAR, JUNE, JUNE), dateTime=None, meta=UPDATED),
        case("a denial by date", (DENY, MAY, MAY + DAY - 1), dateTime="2024-05-01", status="rejected"),
        case("a denial of a month", (DENY, MAY, MAY + 31 * DAY - 1), dateTime="2024-05", status="rejected"),
        case("a server's touch has no month", (DENY, BEGINNING, FOREVER), dateTime=None, status="rejected",
             meta={"versionId": "1", "lastUpdated": "2024-06"}),
        case("a denial without a date", (DENY, BEGINNING, FOREVER), dateTime=None, status="rejected"),
        case("a server's touch dates a denial", (DENY, JUNE, JUNE), dateTime=None, status="rejected", meta=UPDATED),
        case("an ending without a date", (ENDS, BEGINNING, FOREVER), dateTime=None, status="inactive"),
        case("a server's touch dates an ending", (ENDS, JUNE, JUNE), dateTime=None, status="inactive", meta=UPDATED),
        case("its own date goes first", (ENDS, MAY, MAY), dateTime="2024-05-01T00:00:00Z", status="inactive",
             meta=UPDATED),
    ],
)  # fmt: skip
def test_when_it_was_said(fields: Json, expected: tuple[Says, int, int]) -> None:
    fact = read(a_document(**fields))
    assert (fact.says, fact.given, fact.said) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("none", (BEGINNING, FOREVER)),
        case("from a day", (MAY, FOREVER), period={"start": "2024-05-01"}),
        case("until a day, all of it", (BEGINNING, MAY + DAY), period={"end": "2024-05-01"}),
        case("from a month", (MAY, FOREVER), period={"start": "2024-05"}),
        case("until a month, all of it", (BEGINNING, JUNE), period={"end": "2024-05"}),
        case("a year, all of it", (YEAR, YEAR + 366 * DAY), period={"start": "2024", "end": "2024"}),
        case("until an instant, included", (BEGINNING, MAY + SECOND + 1), period={"end": "2024-05-01T00:00:01Z"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("element", ["period", "dataPeriod"])
def test_its_period(fields: Json, expected: tuple[int, int], element: str) -> None:
    """FHIR R4 Period: the end is inclusive; a date as the end means the whole of that day, a month all of it."""
    fact = read(a_document(provision=a_provision(**{element: fields.get("period")})))
    found = (fact.start, fact.end) if element == "period" else (fact.data_start, fact.data_end)
    assert found == expected


# --- which one, and whose ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("a number", (12, 0, ""), meta={"versionId": "12"}),
        case("a number goes before the time of update", (12, 0, ""), meta={**UPDATED, "versionId": "12"}),
        case("the time of update", (-1, JUNE, ""), meta={"lastUpdated": "2024-06-01T00:00:00Z"}),
        case("a text beside the time of update", (-1, JUNE, ""), meta={**UPDATED, "versionId": "W/abc"}),
        case("a text", (-1, BEGINNING, "W/abc"), meta={"versionId": "W/abc"}),
        case("digits that are none of ours", (-1, BEGINNING, "١٢"), meta={"versionId": "١٢"}),
        case("a number without end", (-1, BEGINNING, "9" * 30), meta={"versionId": "9" * 30}),
        case("none", (-1, BEGINNING, ""), meta=None),
    ],
)  # fmt: skip
def test_its_version(fields: Json, expected: tuple[int, int, str]) -> None:
    assert read(a_document(**fields)).version == expected


def test_copies_and_versions_are_told_apart() -> None:
    first, again = read(a_document()), read(a_document())
    assert (first.key, first.what) == (again.key, again.what)
    changed = read(a_document(status="inactive"))
    assert changed.key == first.key and changed.what != first.what
    newer = read(a_document(meta={"versionId": "2"}))
    assert newer.key != first.key and newer.consent == first.consent
    nameless = {read(a_document(id=None, dateTime=day)).consent for day in ("2024-05-01", "2024-05-02")}
    assert len(nameless) == 2, "without an id, two contents are two Consents"


@pytest.mark.parametrize("other", [{"meta": {"versionId": "2"}}, {"id": "c2"}], ids=["version", "Consent"])
def test_which_version_it_is_belongs_to_the_content(other: Json) -> None:
    """One CloudEvents id that carries two versions is one message with two contents: it grounds nothing."""
    envelope = {"source": "urn:feed", "native": "1", "envelope": "consent"}
    one, two = (read(a_document(**fields), **envelope) for fields in ({}, other))
    assert one.key == two.key and one.what != two.what


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("a reference, within its feed", ("ehr", "Patient/7")),
        case("an absolute reference, within its base", ("https://a.example/fhir", "Patient/7"),
             patient={"reference": "https://a.example/fhir/Patient/7"}),
        case("an identifier goes first", ("urn:id:MRN", "42"),
             patient={"reference": "Patient/7", "identifier": {"system": "urn:id:MRN", "value": "42"}}),
        case("a contained Patient", ("urn:id:MRN", "42"), patient={"reference": "#p"},
             contained=[{"resourceType": "Patient", "id": "p",
                         "identifier": [{"system": "urn:id:MRN", "value": "42", "type": coded("v2-0203", "MR")}]}]),
    ],
)  # fmt: skip
def test_whose_it_is(fields: Json, expected: tuple[str, str]) -> None:
    assert read(a_document(**fields)).patient == patient_key(*expected)


def test_a_patient_of_the_same_bundle() -> None:
    held = {"Patient/7": patient_key("urn:id:MRN", "42")}
    assert read(a_document(), patients=held).patient == patient_key("urn:id:MRN", "42")


def test_a_relative_reference_belongs_to_the_envelope() -> None:
    assert read(a_document(), source="urn:feed").patient == patient_key("urn:feed", "Patient/7")


NUMBERED = {"reference": "Patient/7", "identifier": {"system": "urn:id:MRN", "value": "42"}}
MOTHER = {"reference": "Patient/mother"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("nobody is named", False, performer=None),
        case("the patient", False, performer=[{"reference": "Patient/7"}]),
        case("a version of the patient", False, performer=[{"reference": "Patient/7/_history/2"}]),
        case("the patient, who has a number beside", False, performer=[{"reference": "Patient/7"}], patient=NUMBERED),
        case("the patient by number", False, patient=NUMBERED, performer=[{"identifier": NUMBERED["identifier"]}]),
        case("the patient at another server", True, performer=[{"reference": "https://b.example/Patient/7"}]),
        case("another patient", True, performer=[MOTHER]),
        case("another patient by number", True, patient=NUMBERED,
             performer=[{"type": "Patient", "identifier": {"system": "urn:id:MRN", "value": "43"}}]),
        case("the patient and another", True, performer=[{"reference": "Patient/7"}, MOTHER]),
        case("a parent", True, performer=[{"reference": "RelatedPerson/1"}]),
        case("a parent under the patient's number", True, patient=NUMBERED,
             performer=[{"type": "RelatedPerson", "identifier": NUMBERED["identifier"]}]),
        case("somebody by name", True, performer=[{"display": "Robin Roe"}]),
        case("somebody by name, the patient by number", True, performer=[{"display": "Robin Roe"}],
             patient={"identifier": NUMBERED["identifier"]}),
        case("some patient by name", True, performer=[{"type": "Patient", "display": "Robin Roe"}]),
    ],
)  # fmt: skip
def test_whether_somebody_else_gave_it(fields: Json, expected: bool) -> None:
    fact = read(a_document(**fields))
    assert (fact.says, fact.guardian) == (PERMIT, expected)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        case("no patient", Reason.CONSENT_OF_NOBODY, patient=None),
        case("a group", Reason.CONSENT_OF_NOBODY, patient={"reference": "Group/1"}),
        case("a name only", Reason.CONSENT_OF_NOBODY, patient={"display": "Jane Doe"}),
        case("a patient that is a list", Reason.CONSENT_OF_NOBODY, patient=[{"reference": "Patient/1"}]),
        case("no patient in a broken one", Reason.CONSENT_OF_NOBODY, patient=None, provision=[a_provision()]),
    ],
)  # fmt: skip
def test_what_is_rejected(fields: Json, expected: Reason) -> None:
    with pytest.raises(MessageError) as caught:
        read(a_document(**fields))
    assert caught.value.reason is expected
    assert caught.value.__cause__ is None


BROKEN: dict[str, Json] = {
    "a provision that is a list": {"provision": [a_provision()]},
    "a number for a date": {"dateTime": 20240501},
    "a purpose that is no list": {"provision": a_provision(type="deny", purpose={"code": "PATSUPPORT"})},
    "a rule that is a word": {"policyRule": "OPTOUT"},
    "an ending with a provision that is a list": {"status": "inactive", "provision": []},
    "a version that is no text": {"status": "inactive", "meta": {"versionId": 2}},
    "a contained resource that is none": {"status": "inactive", "contained": ["#p"]},
}


@pytest.mark.parametrize("fields", BROKEN.values(), ids=BROKEN)
def test_what_is_broken_but_names_its_patient_is_kept_as_unclear(fields: Json) -> None:
    """It may be a revocation: thrown away, an older permit would go on releasing."""
    fact = read(a_document(**fields))
    assert (fact.says, fact.patient) == (UNCLEAR, read(a_document()).patient)


def test_the_patient_of_a_broken_one_may_be_contained() -> None:
    named = {"resourceType": "Patient", "id": "p", "identifier": [{"system": "urn:id:MRN", "value": "42"}]}
    fact = read(a_document(patient={"reference": "#p"}, contained=[named], provision=[]))
    assert (fact.says, fact.patient) == (UNCLEAR, patient_key("urn:id:MRN", "42"))


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)


@given(
    st.sampled_from([*a_provision(), "class", "code", "data", "securityLabel", "provision", "period", "dataPeriod"]),
    JUNK,
)
def test_no_broken_element_makes_a_wider_permit(element: str, junk: object) -> None:
    """Whatever stands where an element should: rejected, unclear, or a permit that names no more than the sound one."""
    document = a_document()
    document["provision"][element] = junk
    try:
        fact = read(document)
    except MessageError:
        return
    if fact.says is PERMIT:
        assert set(fact.purposes) <= {"PATSUPPORT"} and set(fact.recipients) <= {"Organization/crm"}
        assert element not in ("provision", "type")
        assert fact.kinds == () or element not in ("class", "code", "data")
        assert fact.classes == () or element != "securityLabel"


# --- public examples -----------------------------------------------------------------------------------------------

EXAMPLES = {
    # Consent.id: (what it says, decision on a CRM route; why)
    "consent-example-Out": (UNCLEAR, Reason.CONSENT_UNCLEAR),  # OPTOUT, and a provision without a type
    "consent-example-basic": (UNCLEAR, Reason.CONSENT_UNCLEAR),  # OPTIN, and a provision without a type
    "consent-example-grantor": (UNCLEAR, Reason.CONSENT_UNCLEAR),  # OPTOUT, and a provision without a type
    "consent-example-notOrg": (DENY, Reason.NO_CONSENT),  # a denial to another organisation: nothing is permitted
    "consent-example-notThis": (UNCLEAR, Reason.CONSENT_UNCLEAR),  # data: a single record is left out
    "consent-example-notTime": (UNCLEAR, Reason.CONSENT_UNCLEAR),  # a period, and a provision without a type
    "c0-420902eb-4805-461a-81ab-fc734dd5276c": (UNCLEAR, Reason.CONSENT_UNCLEAR),  # a denial with nested permits
}


def consents_in(tree: object) -> Iterator[Json]:
    """Every Consent resource, however deep."""
    if isinstance(tree, dict):
        if tree.get("resourceType") == "Consent":
            yield tree
        for value in tree.values():
            yield from consents_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from consents_in(value)


GERMAN = {  # a broad consent, under the profile and the forms that it was written for
    "c0-420902eb-4805-461a-81ab-fc734dd5276c": (PERMIT, Reason.OUT_OF_SCOPE),  # research, no recipient of ours
}


def examples(corpus: Path) -> list[Json]:
    folders = ("fhir-consent-spec", "fhir-consent-mii", "fhir-r4-spec-examples")
    files = sorted(path for folder in folders for path in (corpus / folder).glob("*.json"))
    return [one for path in files for one in consents_in(msgspec.json.decode(path.read_bytes()))]


def reasons(facts: list[Consent], policy: Policy) -> set[Reason]:
    """Why nothing leaves under a document, on whatever route that needs a permit, whenever it is asked."""
    found = set()
    for kind, routes in rules(policy, keeps=False).routes.items():
        for scope in (rule.scope for rule in routes if rule.scope.needs_permit):
            for horizon in (facts[0].given, facts[0].given + DAY, at(0)):
                known = standing(facts, BEGINNING, scope, horizon, kind)
                verdict, why, _ = decide(horizon, 0, known, scope, horizon)
                assert verdict is not Verdict.RELEASED
                found.add(why)
    return found


def test_no_public_example_permits_a_crm_route(corpus: Path, policy: Policy) -> None:
    found = examples(corpus)
    assert {document["id"] for document in found} == EXAMPLES.keys()
    for document in found:
        facts = consent(document, around(), PURPOSES)
        expected, reason = EXAMPLES[document["id"]]
        assert facts[0].says is expected, document["id"]
        assert reasons(facts, policy) == {reason}, document["id"]


def test_the_broad_consent_permits_no_crm_route(corpus: Path, policy: Policy) -> None:
    """Each of its permits is read, with its own period; those of listed codes name their purpose."""
    source = policy.source.model_copy(update={"consent_profile": "root-is-base-deny"})
    german = policy.model_copy(update={"source": source, "jurisdiction": "DE"})
    reading = reader(german)._reading
    found = {one["id"]: one for one in examples(corpus) if one["id"] in GERMAN}
    assert found.keys() == GERMAN.keys()
    for name, document in found.items():
        facts = consent(document, Around(reading), policy.purposes)
        expected, reason = GERMAN[name]
        assert facts[0].says is expected, name
        assert reasons(facts, german) == {reason}, name
        if expected is PERMIT:
            assert len(facts) == len(document["provision"]["provision"]) > 20
            assert {fact.purposes for fact in facts if fact.purposes} == {("HRESCH",), ("CLINTRCH",)}
            assert len({fact.end for fact in facts}) > 1, "each with its own period"
