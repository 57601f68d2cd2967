"""FHIR resources to milestones: statuses, times, visits, whose they are, clinicians, and what rejects a resource."""

from typing import Any

import pytest
from builders import a_route, a_scope, micros, the_rules
from fhir_resources import AROUND, ENDED, KEY, READING, TOUCHED, refusal, typed
from msgspec.structs import replace

from schemas.errors import MessageError
from schemas.event import Kind, Made, Milestone
from schemas.instant import DAY
from schemas.outcome import Reason, Verdict
from schemas.timeline import Timeline
from transforms.rules.fhir import NPI_SYSTEM
from transforms.rules.fhir_events import read
from transforms.rules.fhir_parts import Around, split_reference
from transforms.rules.hl7_events import read as read_hl7
from transforms.rules.timeline import advance

NPI = "1234567893"
PATIENT = {"reference": "Patient/7"}


def encounter(**fields: Any) -> dict[str, Any]:
    """A finished Encounter; a field of None is left out."""
    known = {
        "resourceType": "Encounter", "id": "e1", "status": "finished", "subject": PATIENT, "period": {"end": ENDED},
    }  # fmt: skip
    return {name: value for name, value in (known | fields).items() if value is not None}


def appointment(status: str, **fields: Any) -> dict[str, Any]:
    known = {
        "resourceType": "Appointment", "id": "a1", "status": status, "created": "2024-04-01", "end": ENDED,
        "participant": [{"actor": {"reference": "Practitioner/1"}}, {"actor": PATIENT}],
    }  # fmt: skip
    return {name: value for name, value in (known | fields).items() if value is not None}


def episode(status: str) -> dict[str, Any]:
    return {"resourceType": "EpisodeOfCare", "status": status, "patient": PATIENT, "period": {"end": ENDED}}


def told(tree: object, around: Around = AROUND) -> Milestone:
    """The one milestone that a resource states."""
    (fact,) = read(tree, around)
    assert isinstance(fact, Milestone)
    return fact


# --- Statuses -----------------------------------------------------------------------------------------------------

ENCOUNTERS: dict[str, object] = dict.fromkeys(("planned", "arrived", "triaged", "in-progress", "onleave", "unknown"))
ENCOUNTERS |= {"finished": (Kind.DISCHARGED, ())}
STAY = (Kind.DISCHARGED, Kind.ADMITTED, Kind.REGISTERED)
ENCOUNTERS |= dict.fromkeys(("cancelled", "entered-in-error"), (Kind.DISCHARGED, STAY))
EPISODES: dict[str, object] = dict.fromkeys(("planned", "waitlist", "onhold"))
EPISODES |= {"active": (Kind.ENROLLED, ()), "finished": (Kind.EPISODE_COMPLETED, ())}
EPISODES |= dict.fromkeys(
    ("cancelled", "entered-in-error"), (Kind.EPISODE_COMPLETED, (Kind.EPISODE_COMPLETED, Kind.ENROLLED))
)
APPOINTMENTS: dict[str, object] = dict.fromkeys(("proposed", "pending", "arrived", "checked-in", "waitlist"))
APPOINTMENTS |= {"booked": (Kind.BOOKED, ()), "fulfilled": (Kind.ATTENDED, ())}
APPOINTMENTS |= dict.fromkeys(("cancelled", "entered-in-error", "noshow"), (Kind.BOOKED, (Kind.BOOKED, Kind.ATTENDED)))
NOT_OF_FHIR: dict[str, object] = dict.fromkeys(("", "FINISHED", "finished ", "booked\n"))


@pytest.mark.parametrize(
    "tree, expected",
    [
        *[(encounter(status=status), meaning) for status, meaning in (ENCOUNTERS | NOT_OF_FHIR).items()],
        *[(episode(status), meaning) for status, meaning in (EPISODES | NOT_OF_FHIR).items()],
        *[(appointment(status), meaning) for status, meaning in (APPOINTMENTS | NOT_OF_FHIR).items()],
        (encounter(status=None), None),
    ],
    ids=lambda value: f"{value['resourceType']} {value.get('status')!r}" if isinstance(value, dict) else "",
)
def test_statuses(tree: dict[str, Any], expected: tuple[Kind, tuple[Kind, ...]] | None) -> None:
    (fact,) = read(tree, AROUND)
    if expected is None:
        assert isinstance(fact, Made)
        assert (fact.verdict, fact.reason) == (Verdict.UNROUTED, Reason.NO_MILESTONE)
    else:
        assert isinstance(fact, Milestone)
        assert (fact.kind, fact.cancels) == expected
        assert (fact.patient, fact.type) == (KEY, tree["resourceType"])


def test_the_status_is_judged_before_the_patient() -> None:
    (fact,) = read(encounter(status="planned", subject=None), AROUND)
    assert isinstance(fact, Made)
    assert refusal(encounter(subject=None)) is Reason.NO_PATIENT


@pytest.mark.parametrize("status", ["cancelled", "entered-in-error"])
def test_an_encounter_that_never_was_withdraws_the_whole_stay(status: str) -> None:
    stay = [replace(told(encounter()), key=kind.encode(), what=kind.encode(), kind=kind) for kind in STAY]
    other = replace(stay[0], key=b"other", what=b"other", visit="e2")
    free = the_rules(a_route("event", by_patient=False, scope=a_scope(needs_permit=False)))
    error = told(encounter(status=status, meta=META))
    _, outcomes, _, _ = advance(Timeline(), [*stay, other, error], micros("2024-06-01"), free)
    found = {o.event.key: o.reason for o in outcomes}
    assert found == dict.fromkeys([one.key for one in stay], Reason.CANCELLED) | {
        other.key: Reason.NO_CONSENT_NEEDED,
        error.key: Reason.CANCELLATION,
    }


# --- Times, visits, classes -----------------------------------------------------------------------------------------

META = {"lastUpdated": TOUCHED}
TIMES = [
    ("the end of an encounter", encounter(meta=META), ENDED),
    ("no end: when it was last touched", encounter(period=None, meta=META), TOUCHED),
    ("a start is no end", encounter(period={"start": ENDED}, meta=META), TOUCHED),
    ("an end that cannot be read", encounter(period={"end": "yesterday"}, meta=META), None),
    ("an end by the month", encounter(period={"end": "2024-05"}, meta=META), None),
    ("no time at all", encounter(period=None), None),
    ("a booking happens when it is made", appointment("booked", meta=META), "2024-04-01"),
    ("a booking of unknown making", appointment("booked", created=None, meta=META), TOUCHED),
    ("a booking of unknown making is not dated by the visit", appointment("booked", created=None), None),
    ("a visit is attended at its end", appointment("fulfilled", meta=META), ENDED),
    ("a cancellation happens when it is said", encounter(status="cancelled", meta=META), TOUCHED),
    ("and not before what it takes back", encounter(status="cancelled", meta={"lastUpdated": "2024-01-01"}), ENDED),
    ("a cancelled booking", appointment("cancelled", meta=META), TOUCHED),
    ("a cancellation without a touch", encounter(status="cancelled"), ENDED),
]


@pytest.mark.parametrize("tree, expected", [pytest.param(*case, id=name) for name, *case in TIMES])
def test_times(tree: dict[str, Any], expected: str | None) -> None:
    assert told(tree).time == (micros(expected) if expected else None)


def test_a_date_is_a_whole_day() -> None:
    assert told(encounter(period={"end": "2024-05-01"})).span == DAY


def test_visits() -> None:
    assert told(encounter()).visit == "e1"
    assert told(encounter(identifier=[{"system": "x"}, {"value": "V7"}])).visit == "V7"
    assert told(encounter(id=None)).visit == ""


def test_an_encounter_and_a_booking_are_known_by_all_of_their_numbers() -> None:
    """A cancellation may name any of them: AppointmentResponse knows the Appointment by its id alone."""
    numbers = [{"system": "urn:a", "value": "V1"}, {"value": None}, {"system": "urn:b", "value": "V2"}]
    fact = told(encounter(id="e1", identifier=numbers))
    assert (fact.visit, fact.also) == ("V1", ("V2", "e1"))
    assert [(one.visit, one.also) for one in (told(encounter(id="e1")), told(encounter(id=None)))] == [
        ("e1", ()),
        ("", ()),
    ]


A, B, VISIT = (
    {"system": "s1", "value": "A"},
    {"system": "s2", "value": "B"},
    {"value": "V1", "type": typed("VN")["type"]},
)
NUMBERS: list[tuple[str, list[Any], list[str]]] = [
    ("in the order of their text", [B, A], ["A", "B", "e1"]),
    ("a visit number first", [A, VISIT, B], ["V1", "A", "B", "e1"]),
    ("of a booking the placer's", [A, {**B, "type": typed("PLAC")["type"]}], ["B", "A", "e1"]),
    ("one for official use", [A, {**B, "use": "official"}], ["B", "A", "e1"]),
    ("a visit number before one for official use", [{**A, "use": "official"}, VISIT], ["V1", "A", "e1"]),
    ("of two visit numbers the official one", [{**VISIT, "use": "official", "value": "V2"}, VISIT], ["V2", "V1", "e1"]),
    ("one that is no longer in use last", [{**VISIT, "use": "old"}, B], ["B", "V1", "e1"]),
    ("of another system of types", [{**B, "type": {"coding": [{"system": "x", "code": "VN"}]}}, A], ["A", "B", "e1"]),
    ("one without a value", [{"system": "s1"}, B, {"type": typed("VN")["type"]}], ["B", "e1"]),
]  # fmt: skip


@pytest.mark.parametrize("found, expected", [pytest.param(*case, id=name) for name, *case in NUMBERS])
def test_which_number_is_the_visit_s_does_not_depend_on_their_order(found: list[Any], expected: list[str]) -> None:
    for identifiers in (found, found[::-1]):
        fact = told(encounter(identifier=identifiers))
        assert [fact.visit, *fact.also] == expected


@pytest.mark.parametrize(
    "code, expected",
    [("IMP", "inpatient"), ("ACUTE", "inpatient"), ("NONAC", "inpatient"), ("AMB", "outpatient"), ("EMER", "emergency"),
     ("VR", "other"), ("DOE", "other"), (None, "unknown")],
)  # fmt: skip
def test_service_classes(code: str | None, expected: str) -> None:
    assert told(encounter(**{"class": {"code": code}})).values["service_class"] == expected


# --- Patients -------------------------------------------------------------------------------------------------------

MAIN_42 = "urn:id:MAIN\x1f42"
BUNDLED = {"Patient/7": MAIN_42, "urn:uuid:7": MAIN_42, "Patient/8": "", "Patient/9": None}
STU3 = {**typed("MR"), "type": {"coding": [{"system": "http://hl7.org/fhir/v2/0203", "code": "MR"}]}}
SUBJECTS: list[tuple[str, object, str]] = [
    ("a relative reference belongs to the source", PATIENT, KEY),
    ("a base URL is a source", {"reference": "https://b.example/r4/Patient/7"}, "https://b.example/r4\x1fPatient/7"),
    ("one version of a patient is that patient", {"reference": "Patient/7/_history/3"}, KEY),
    ("a urn", {"reference": "urn:uuid:5"}, "ehr\x1furn:uuid:5"),
    ("an identifier outweighs the reference", {**PATIENT, "identifier": typed("MR")}, "urn:id:MAIN\x1f42"),
    ("an identifier alone", {"identifier": typed("MR")}, "urn:id:MAIN\x1f42"),
    ("an identifier without a type", {"identifier": {"system": "urn:id:A", "value": "1"}}, "urn:id:A\x1f1"),
    ("spaces around a value", {"identifier": typed("MR", value=" 42 ")}, "urn:id:MAIN\x1f42"),
    ("a type of another system", {**PATIENT, "identifier": {**typed("MR"), "type": {"coding": [{"code": "MR"}]}}}, KEY),
    ("a social security number", {**PATIENT, "identifier": typed("SS")}, KEY),
    ("one that is called a record number too", {**PATIENT, "identifier": typed("MR", "SS")}, KEY),
    ("its system", {**PATIENT, "identifier": typed("MR", system="http://hl7.org/fhir/sid/us-ssn")}, KEY),
    ("a number no longer in use", {**PATIENT, "identifier": typed("MR", use="old")}, KEY),
    ("a conditional reference", {"reference": "Patient?identifier=urn:id:MAIN|42"}, "urn:id:MAIN\x1f42"),
    ("a conditional reference with a URL", {"reference": "Patient?identifier=http://a/b|42"}, "http://a/b\x1f42"),
    ("one that asks for more", {"reference": "Patient?identifier=urn:id:MAIN|42&active=true"}, ""),
    ("one by name", {"reference": "Patient?name=DOE|JANE"}, ""),
    ("one without a system", {"reference": "Patient?identifier=42"}, ""),
    ("one by a social security number", {"reference": "Patient?identifier=http://hl7.org/fhir/sid/us-ssn|1"}, ""),
    ("one with an encoded mark", {"reference": "Patient?identifier=urn:id:MAIN%7C42"}, "urn:id:MAIN\x1f42"),
    ("one with a mark encoded in small letters", {"reference": "Patient?identifier=urn:id:M%7c42"}, "urn:id:M\x1f42"),
    ("one that asks for more under an encoded mark", {"reference": "Patient?identifier=urn:id:M%7C42&active=true"}, ""),
    ("a type as STU3 had it", {"identifier": STU3}, "urn:id:MAIN\x1f42"),
    ("a group", {"reference": "Group/7"}, ""),
    ("a group with an identifier", {"reference": "Group/7", "identifier": typed("MR")}, ""),
    ("a group by its type", {"type": "Group", "identifier": typed("MR")}, ""),
    ("a group that is called a patient", {"reference": "Group/7", "type": "Patient"}, ""),
    ("no id", {"reference": "Patient/"}, ""),
    ("an id alone", {"reference": "7"}, ""),
    ("a path below a patient", {"reference": "Patient/7/Account/8"}, ""),
    ("a control character", {"reference": "Patient/7\x1f8"}, ""),
    ("nothing said", {}, ""),
    ("a display is no patient", {"display": "DOE, JANE"}, ""),
    ("nothing at all", None, ""),
]  # fmt: skip


@pytest.mark.parametrize("subject, expected", [pytest.param(*case, id=name) for name, *case in SUBJECTS])
def test_patients(subject: object, expected: str) -> None:
    tree = encounter(subject=subject)
    if expected:
        assert told(tree).patient == expected
    else:
        assert refusal(tree) is Reason.NO_PATIENT


@pytest.mark.parametrize(
    "reference, expected",
    [("Patient/7", MAIN_42), ("urn:uuid:7", MAIN_42), ("Patient/7/_history/1", MAIN_42),
     ("Patient/8", "ehr\x1fPatient/8"), ("Patient/6", "ehr\x1fPatient/6"), ("Patient/9", "")],
    ids=["relative", "urn", "versioned", "without an identifier", "not in the Bundle", "two patients of one name"],
)  # fmt: skip
def test_patients_of_the_same_bundle(reference: str, expected: str) -> None:
    tree, around = encounter(subject={"reference": reference}), Around(READING, patients=BUNDLED)
    assert (told(tree, around).patient == expected) if expected else (refusal(tree, around) is Reason.NO_PATIENT)


def test_contained_patients() -> None:
    inside = [{"resourceType": "Patient", "id": "p", "identifier": [typed("SS", value="9"), typed("MR")]}]
    other = [
        {"resourceType": "Bundle", "id": "p", "identifier": typed("MR")}
    ]  # a Bundle has one identifier, not several
    assert told(encounter(subject={"reference": "#p"}, contained=inside)).patient == "urn:id:MAIN\x1f42"
    assert refusal(encounter(subject={"reference": "#p"}, contained=other)) is Reason.NO_PATIENT
    assert refusal(encounter(subject={"reference": "#q"}, contained=inside)) is Reason.NO_PATIENT


def test_the_source_is_that_of_the_envelope() -> None:
    around = Around(READING, "urn:feed:9", "m1", "type")
    assert told(encounter(), around).patient == "urn:feed:9\x1fPatient/7"
    assert told(encounter(subject={"reference": "https://b/Patient/7"}), around).patient == "https://b\x1fPatient/7"


@pytest.mark.parametrize(
    "actors, expected",
    [
        ([{"reference": "Practitioner/1"}, PATIENT], KEY),
        ([{"reference": "https://b/Patient/7"}], "https://b\x1fPatient/7"),
        ([{"reference": "Patient/7/_history/2"}], KEY),
        ([{"type": "Patient", "identifier": typed("MR")}], "urn:id:MAIN\x1f42"),
        ([{"reference": "Patient?identifier=http://a/b|42"}], "http://a/b\x1f42"),
        ([{"reference": "urn:uuid:1"}], ""),
        ([{"identifier": typed("MR")}], MAIN_42),
        ([{"reference": "Practitioner/1"}, {"identifier": typed("MR")}], MAIN_42),
        ([{"identifier": typed("MR")}, PATIENT], KEY),
        ([{"identifier": typed("MR")}, {"identifier": typed("MR")}], MAIN_42),
        ([{"identifier": typed("MR")}, {"identifier": typed("MR", value="43")}], ""),
        ([{"identifier": typed("MR"), "type": "Practitioner"}], ""),
        (
            [{"identifier": typed("MR"), "type": "Practitioner"}, {"identifier": typed("MR", value="43")}],
            "urn:id:MAIN\x1f43",
        ),
        ([{"identifier": typed("PRN")}], ""),
        ([{"identifier": typed("SS")}], ""),
        ([{"identifier": {"system": "urn:id:MAIN", "value": "42"}}], ""),
        ([{"reference": "Practitioner/1", "identifier": typed("MR")}], ""),
        ([], ""),
    ],
)
def test_the_patient_of_an_appointment(actors: list[dict[str, Any]], expected: str) -> None:
    tree = appointment("booked", participant=[{"actor": actor} for actor in actors])
    assert (told(tree).patient == expected) if expected else (refusal(tree) is Reason.NO_PATIENT)


@pytest.mark.parametrize("status", ["booked", "fulfilled", "cancelled"])
def test_an_appointment_of_two_patients_is_of_neither(status: str) -> None:
    people = [{"actor": PATIENT}, {"actor": {"reference": "Patient/8"}}]
    assert refusal(appointment(status, participant=people)) is Reason.NO_PATIENT
    assert refusal(appointment(status, participant=people[::-1])) is Reason.NO_PATIENT
    twice = [{"actor": PATIENT}, {"actor": {"reference": "Patient/7/_history/2"}}]
    assert told(appointment(status, participant=twice)).patient == KEY


def test_a_participant_under_a_modifier_may_be_none() -> None:
    people = [{"actor": PATIENT, "modifierExtension": [{"url": "x"}]}, {"actor": {"reference": "Patient/8"}}]
    assert told(appointment("booked", participant=people)).patient == "ehr\x1fPatient/8"
    assert refusal(appointment("booked", participant=people[:1])) is Reason.NO_PATIENT


def test_split_reference() -> None:
    assert split_reference("Patient/7") == ("", "Patient/7")
    assert split_reference("http://a/b/Patient/7/_history/1") == ("http://a/b", "Patient/7")
    assert split_reference("7") == ("", "7")
    assert split_reference("") == ("", "")


# --- Clinicians -----------------------------------------------------------------------------------------------------

CLINICIANS: list[tuple[str, object, str]] = [
    ("by identifier", {"individual": {"identifier": {"system": NPI_SYSTEM, "value": NPI}}}, NPI),
    ("by conditional reference", {"individual": {"reference": f"Practitioner?identifier={NPI_SYSTEM}|{NPI}"}}, NPI),
    ("by the Practitioner in the Bundle", {"individual": {"reference": "Practitioner/1"}}, NPI),
    ("of unknown system", {"individual": {"identifier": {"system": "urn:x", "value": NPI}}}, ""),
    ("with a wrong check digit", {"individual": {"identifier": {"system": NPI_SYSTEM, "value": "1234567890"}}}, ""),
    ("a bare number", {"individual": {"reference": NPI}}, ""),
    ("not in the Bundle", {"individual": {"reference": "Practitioner/2"}}, ""),
    ("under a modifier", {"individual": {"reference": "Practitioner/1"}, "modifierExtension": [{"url": "x"}]}, ""),
    ("nobody", {}, ""),
]


@pytest.mark.parametrize("participant, npi", [pytest.param(*case, id=name) for name, *case in CLINICIANS])
def test_clinicians(participant: object, npi: str) -> None:
    around = Around(READING, providers={"Practitioner/1": NPI})
    assert told(encounter(participant=[{}, participant]), around).values.get("npi", "") == npi
    assert told(encounter(status="cancelled", participant=[participant]), around).values == {}


# --- What rejects ---------------------------------------------------------------------------------------------------

EXTENSION = [{"url": "http://example.org/not-done", "valueBoolean": True}]
UNREADABLE = [{"resourceType": "Patient", "id": "p", "identifier": 1}]
BROKEN = [
    ("a modifier", encounter(modifierExtension=EXTENSION), Reason.UNKNOWN_MODIFIER),
    ("rules of its own", encounter(implicitRules="http://example.org/rules"), Reason.UNKNOWN_MODIFIER),
    ("rules without a name", encounter(implicitRules=""), Reason.UNKNOWN_MODIFIER),
    ("a modifier on a Patient", {"resourceType": "Patient", "modifierExtension": EXTENSION}, Reason.UNKNOWN_MODIFIER),
    ("a number for a status", encounter(status=1), Reason.MALFORMED),
    ("a list for a status", encounter(status=["finished"]), Reason.MALFORMED),
    ("a text for a period", encounter(period=ENDED), Reason.MALFORMED),
    ("a text for a subject", encounter(subject="Patient/7"), Reason.MALFORMED),
    ("a list for a subject", encounter(subject=[PATIENT]), Reason.MALFORMED),
    ("an object for a list", encounter(identifier={"value": "1"}), Reason.MALFORMED),
    ("a null in a list", encounter(identifier=[None]), Reason.MALFORMED),
    ("a number for a date", encounter(period={"end": 20240501}), Reason.MALFORMED),
    ("a number for a link", {"resourceType": "Patient", "link": [{"other": 5}]}, Reason.MALFORMED),
    ("a text for a link", {"resourceType": "Patient", "link": ["Patient/8"]}, Reason.MALFORMED),
    ("a contained text", encounter(contained=["x"]), Reason.MALFORMED),
    ("a contained Patient that cannot be read", encounter(subject={"reference": "#p"}, contained=UNREADABLE),
     Reason.NO_PATIENT),
]  # fmt: skip


@pytest.mark.parametrize("tree, reason", [pytest.param(*case, id=name) for name, *case in BROKEN])
def test_what_rejects(tree: dict[str, Any], reason: Reason) -> None:
    assert refusal(tree) is reason


@pytest.mark.parametrize("place", ["security", "tag"])
def test_test_data_is_none_of_production(place: str) -> None:
    labelled = encounter(meta={place: [{"code": "HTEST"}]})
    production = Around(READING._replace(production=True))
    with pytest.raises(MessageError) as caught:
        read(labelled, production)
    assert caught.value.reason is Reason.WRONG_ENVIRONMENT
    assert read(labelled, AROUND) and read(encounter(), production)


def test_a_null_is_as_good_as_nothing() -> None:
    nulls = dict.fromkeys(
        ("meta", "identifier", "participant", "contained", "modifierExtension", "implicitRules", "class")
    )
    assert read({**encounter(), **nulls}, AROUND) == read(encounter(), AROUND)


def test_elements_that_no_recipe_reads_may_be_anything() -> None:
    anything = {
        "type": [{"text": "x"}],
        "source": 5,
        "data": "x",
        "text": {"div": "<div/>"},
        "length": {"value": 10**30},
    }
    assert read(encounter(**anything), AROUND) == read(encounter(), AROUND)


# --- Which message --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "left, right, same",
    [
        (encounter(meta={"versionId": "1"}), encounter(meta={"versionId": "1"}, period=None), True),
        (encounter(meta={"versionId": "1"}), encounter(meta={"versionId": "2"}), False),
        (encounter(meta={"lastUpdated": ENDED}), encounter(meta={"lastUpdated": TOUCHED}), False),
        (encounter(), encounter(id="e2"), False),
        (encounter(), encounter(period=None), False),
        (encounter(id=None), encounter(id=None), True),
        (encounter(id=None, meta={"versionId": "1"}), encounter(id=None, period=None, meta={"versionId": "1"}), False),
        (encounter(), encounter(subject={"reference": "Patient/8"}), False),
    ],
    ids=["one version, two contents", "two versions", "two touches", "two resources", "no version: the content",
         "no id: the content", "no id: two contents", "two patients"],
)  # fmt: skip
def test_idempotency_keys(left: dict[str, Any], right: dict[str, Any], same: bool) -> None:
    assert (told(left).key == told(right).key) is same


def test_in_a_cloudevent_its_source_and_id_are_the_key() -> None:
    around = Around(READING, "urn:feed", "m1", "type")
    key = told(encounter(), around).key
    assert told(encounter(period=None, meta={"versionId": "9"}), around).key == key
    assert key not in (told(encounter(), Around(READING, "urn:feed", "m2", "type")).key, told(encounter()).key)
    assert key != told(encounter(), Around(READING, "urn:other", "m1", "type")).key


def test_the_same_visit_in_hl7_and_fhir_is_one_milestone() -> None:
    hl7 = "\r".join(
        [
            "MSH|^~\\&|EPIC|MAIN|||20240501130000||ADT^A03^ADT_A03|M1|P|2.5.1",
            "EVN|A03|20240501125900|||OP|20240501120000",
            "PID|1||42^^^MAIN^MR",
            f"PV1|1|I|||||{NPI}^DOE^ANN^^^^^^NPI||||||||||||V7",
        ]
    ).encode()
    tree = encounter(
        subject={"identifier": typed("MR")}, identifier=[{"value": "V7"}], **{"class": {"code": "IMP"}},
        participant=[{"individual": {"identifier": {"system": NPI_SYSTEM, "value": NPI}}}],
    )  # fmt: skip
    (by_hl7,), by_fhir = read_hl7(hl7, READING), told(tree)
    assert isinstance(by_hl7, Milestone)
    assert by_hl7.what == by_fhir.what
    assert by_hl7.key != by_fhir.key
    assert told({**tree, "period": {"end": "2024-05-01T12:00:01Z"}}).what != by_fhir.what


def test_what_is_contained_is_known_by_its_local_name_alone() -> None:
    """Patient/7 is the server's, whatever number a contained Patient has."""
    contained = [{"resourceType": "Patient", "id": "7", "identifier": [typed("MR")]}]
    assert told(encounter(contained=contained)).patient == KEY
    assert told(encounter(contained=contained, subject={"reference": "#7"})).patient == MAIN_42
