"""A Patient that a resource contains tells of a death, an age and labels as one in a Bundle does, whatever holds it."""

import json
from collections import Counter
from datetime import UTC
from pathlib import Path
from typing import Any

import pytest
from fhir_resources import typed
from hospital_files import decide, ndjson, payloads, permit

from schemas.event import AnyFact, Consent, Mark, Person
from schemas.instant import BEGINNING
from transforms.rules import hl7_events
from transforms.rules.envelope import Envelopes
from transforms.rules.reading import Reading
from transforms.rules.sensitivity import Sensitivity

Json = dict[str, Any]
READING = Reading("ehr", "UTF-8", UTC, ("MR", "PI"), sensitivity=Sensitivity(labels={(None, "HIV"): ("hiv",)}))
MR, PI, OTHER = "urn:id:A\x1f1", "urn:id:B\x1f2", "urn:id:C\x1f9"
NUMBERS = [typed("MR", value="1", system="urn:id:A"), typed("PI", value="2", system="urn:id:B")]
BY_OTHER = {"identifier": typed("PI", value="9", system="urn:id:C")}
HERE = {"reference": "#pt"}
DEAD: Json = {"deceasedBoolean": True}
CHILD: Json = {"birthDate": "2019-01-01"}
LABELLED: Json = {"meta": {"security": [{"code": "HIV"}]}}


def inside(**more: Any) -> Json:
    return {"resourceType": "Patient", "id": "pt", "identifier": NUMBERS, **more}


def facts(document: Json) -> list[AnyFact]:
    opened = Envelopes(READING, {"PATSUPPORT": (), "HCPVISIBLE": ()}, hl7_events.read)
    [message] = opened.line(json.dumps(document).encode())
    assert message.reason is None and [one.counted for one in message.facts if hasattr(one, "counted")].count(True) <= 1
    return message.facts


def told(document: Json) -> dict[str, tuple[bool, bool, bool]]:
    """To whom, whether of a death, of an age and of a label; each once, none of it counted."""
    beside = [one for one in facts(document) if isinstance(one, Person) or (isinstance(one, Mark) and not one.visits)]
    assert set(Counter((type(one), one.patient) for one in beside).values()) <= {1}
    found = {one.patient: [False, False, False] for one in beside}
    for one in beside:
        if isinstance(one, Mark):
            found[one.patient][2] = one.classes == ("hiv",)
        else:
            assert not one.counted
            found[one.patient][:2] = [one.died, one.adult_at != BEGINNING]
    return {name: (died, young, marked) for name, (died, young, marked) in found.items()}


def holding(kind: str, element: str, value: Any, status: str = "", **fields: Any) -> Json:
    return {"resourceType": kind, "id": "x", "status": status, element: value, **fields}


ENCOUNTER = holding("Encounter", "subject", HERE, "finished", period={"end": "2026-05-20T12:00:00Z"})
ACTOR = {"actor": HERE}
HOLDERS = [
    ENCOUNTER,
    {**ENCOUNTER, "status": "in-progress"},
    holding("EpisodeOfCare", "patient", HERE, "finished", period={"end": "2026-05-20"}),
    holding("Appointment", "participant", [{"actor": {"reference": "Practitioner/1"}}, ACTOR], "booked"),
    holding("AppointmentResponse", "actor", HERE, participantStatus="accepted"),
    holding("MedicationRequest", "subject", HERE, "active", intent="plan"),
    holding("MedicationDispense", "subject", HERE, "completed", whenHandedOver="2026-05-20"),
    holding("ResearchSubject", "individual", HERE, "candidate"),
    holding("Observation", "subject", HERE, "final"),
    holding("Condition", "subject", HERE),
    permit(HERE),
    permit(HERE, status="rejected"),
]


@pytest.mark.parametrize("holder", HOLDERS, ids=lambda one: f"{one['resourceType']}-{one['status']}")
def test_what_a_contained_patient_tells(holder: Json) -> None:
    for person, expected in (
        (inside(), None), (inside(**DEAD), (True, False, False)), (inside(**CHILD), (False, True, False)),
        (inside(**LABELLED), (False, False, True)), (inside(**DEAD, **CHILD, **LABELLED), (True, True, True)),
    ):  # fmt: skip
        assert told({**holder, "contained": [person]}) == (dict.fromkeys((MR, PI), expected) if expected else {})


def test_of_whom_a_reference_says_more() -> None:
    """A number that the Patient itself does not state, whether or not the resource states a milestone."""
    for status in ("finished", "in-progress"):
        tree = {**ENCOUNTER, "status": status, "subject": {**HERE, **BY_OTHER}, "contained": [inside(**DEAD)]}
        assert told(tree) == dict.fromkeys((MR, PI, OTHER), (True, False, False))


def test_one_that_nothing_refers_to_may_be_whoever_it_is_about() -> None:
    nameless = inside(**DEAD, identifier=[])
    assert told({**ENCOUNTER, "subject": BY_OTHER, "contained": [nameless]}) == {OTHER: (True, False, False)}
    literal = {**ENCOUNTER, "subject": {"reference": "Patient/pt"}, "contained": [nameless]}
    assert told(literal) == {"ehr\x1fPatient/pt": (True, False, False)}


def test_who_signs_for_a_child_is_somebody_else() -> None:
    mother = inside(**LABELLED, identifier=NUMBERS[:1])
    assert told(permit(BY_OTHER, performer=[HERE], contained=[mother])) == {MR: (False, False, True)}


def test_a_denial_reaches_every_number_of_a_contained_patient() -> None:
    denied = [one for one in facts(permit(HERE, status="rejected", contained=[inside()])) if isinstance(one, Consent)]
    assert [(one.patient, one.counted) for one in denied] == [(MR, True), (PI, False)]


def test_what_cannot_be_read_tells_nothing_and_stops_nothing() -> None:
    broken = inside(**DEAD, meta={"security": 5}, name=5)
    assert told({**ENCOUNTER, "contained": [broken]}) == dict.fromkeys((MR, PI), (True, False, False))
    unread = {"reference": "#pt", "identifier": 5}
    noted = {**ENCOUNTER, "subject": BY_OTHER, "note": unread, "contained": [inside(**DEAD)]}
    assert told(noted) == dict.fromkeys((MR, PI), (True, False, False))
    assert told(permit(BY_OTHER, status="rejected", contained=["#pt", 5])) == {}
    for nonsense in ({}, 5, None):
        assert told(permit(BY_OTHER, status="rejected", contained=nonsense)) == {}


@pytest.mark.parametrize("more", [DEAD, CHILD, {"meta": {"security": [{"code": "R"}]}}], ids=["dead", "child", "label"])
def test_nothing_leaves_through_the_whole_job(tmp_path: Path, more: Json) -> None:
    feed = [permit(HERE), ENCOUNTER, holding("Observation", "subject", HERE)]
    for teller in (None, *feed):
        documents = [{**one, "contained": [inside(**(more if one is teller else {}))]} for one in feed]
        folder = tmp_path / (teller["resourceType"] if teller else "nobody")
        ndjson(folder / "in/feed.ndjson", documents)
        decide([folder / "in"], folder / "out", folder / "state")
        assert len(payloads(folder / "out")) == (0 if teller else 2)
