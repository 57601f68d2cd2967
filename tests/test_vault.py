"""The vault: one record key per (scope, patient) for ever, whoever asks, however many at once.

The tests with `vault` also run on PostgreSQL if LIMEN_POSTGRES names a database (without password) that they may empty.
"""

import logging
import multiprocessing
import os
import pickle
import random
import sqlite3
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from pipelines import keys
from pipelines.vault import SqlVault, VaultRef
from schemas.errors import ConfigurationError, LimenError, StoreError
from schemas.stores import Opens, Vault

CRM, HCP = "crm|PATSUPPORT", "crm|HCPVISIBLE"
ANNA, BEN = "urn:id:HOSP\x1fCANARY-1", "urn:id:HOSP\x1fCANARY-2"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    keys.create(tmp_path / "state")
    return tmp_path / "state"


@pytest.fixture(params=["sqlite", "postgresql"])
def reference(request: pytest.FixtureRequest, state: Path) -> VaultRef:
    if request.param == "sqlite":
        return VaultRef(str(state))
    address = os.environ.get("LIMEN_POSTGRES", "")
    if not address:
        pytest.skip("LIMEN_POSTGRES is not set")
    engine = sqlalchemy.create_engine(address)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS patients, records, key_check")
    engine.dispose()
    return VaultRef(str(state), address)


@pytest.fixture
def vault(reference: VaultRef) -> Iterator[SqlVault]:
    opened = reference.open()
    yield opened
    opened.close()


@pytest.fixture
def file(state: Path) -> Iterator[Callable[..., list[Any]]]:
    """Run SQL on the SQLite file behind the vault's back."""
    connection = sqlite3.connect(state / "vault.sqlite", isolation_level=None)
    yield lambda sql, *values: connection.execute(sql, values).fetchall()
    connection.close()


# --- Records -----------------------------------------------------------------


def test_it_is_what_the_stages_ask_for(state: Path) -> None:
    reference: Opens[Vault] = VaultRef(str(state))
    assert reference.open().records(CRM, [ANNA])


def test_one_record_per_patient_in_the_order_asked(vault: SqlVault) -> None:
    first = vault.records(CRM, [ANNA, BEN, ANNA])
    assert first[0] == first[2] != first[1]
    assert {len(record) for record in first} == {16}
    assert vault.records(CRM, [BEN, ANNA]) == [first[1], first[0]]
    assert vault.records(CRM, []) == []


def test_known_and_new_patients_in_batches(vault: SqlVault) -> None:
    patients = [f"urn:id:HOSP\x1f{number}" for number in range(5001)]
    some = vault.records(CRM, patients[::2])
    everyone = vault.records(CRM, patients[::-1])[::-1]
    assert everyone[::2] == some and len(set(everyone)) == 5001
    assert vault.records(CRM, patients) == everyone
    assert [vault.resolve(CRM, everyone[at]) for at in (0, 2000, 5000)] == [patients[at] for at in (0, 2000, 5000)]


def test_the_same_answer_after_reopening(reference: VaultRef, vault: SqlVault) -> None:
    record = vault.records(CRM, [ANNA])
    again = pickle.loads(pickle.dumps(reference)).open()
    assert again.records(CRM, [ANNA]) == record
    again.close()


def test_two_scopes_share_nothing(vault: SqlVault) -> None:
    (crm,), (hcp,) = vault.records(CRM, [ANNA]), vault.records(HCP, [ANNA])
    assert crm != hcp
    assert vault.resolve(CRM, crm) == vault.resolve(HCP, hcp) == ANNA
    assert vault.resolve(HCP, crm) is None and vault.resolve(CRM, hcp) is None


def test_find_makes_nothing(vault: SqlVault) -> None:
    assert vault.find(CRM, ANNA) is None
    assert vault.find(CRM, ANNA) is None
    (record,) = vault.records(CRM, [ANNA])
    assert vault.find(CRM, ANNA) == record
    assert vault.find(HCP, ANNA) is None and vault.find(CRM, BEN) is None


def test_a_record_says_nothing_of_its_patient(tmp_path: Path) -> None:
    """Random, not computed: the same patient under other keys, and under the same keys in another vault, differs."""
    keys.create(tmp_path / "a")
    found = []
    for _ in range(2):
        vault = VaultRef(str(tmp_path / "a")).open()
        found += vault.records(CRM, [ANNA])
        vault.close()
        (tmp_path / "a" / "vault.sqlite").unlink()
    assert found[0] != found[1]


@pytest.mark.parametrize("scope", ["", "crm", "crm|", "|PATSUPPORT", "|"])
def test_there_is_no_default_scope(vault: SqlVault, scope: str) -> None:
    for ask in (
        lambda: vault.records(scope, [ANNA]),
        lambda: vault.find(scope, ANNA),
        lambda: vault.resolve(scope, b""),
    ):
        with pytest.raises(StoreError, match="^vault_scope_missing$"):
            ask()


def test_nobody_is_no_patient(vault: SqlVault) -> None:
    for ask in (lambda: vault.records(CRM, [ANNA, ""]), lambda: vault.find(CRM, ""), lambda: vault.shred("")):
        with pytest.raises(StoreError, match="^vault_patient_missing$"):
            ask()
    assert vault.find(CRM, ANNA) is None


# --- Shredding ---------------------------------------------------------------


def test_a_shredded_patient_stays_severed_and_the_record_stays(vault: SqlVault) -> None:
    crm, hcp, ben = *vault.records(CRM, [ANNA]), *vault.records(HCP, [ANNA]), *vault.records(CRM, [BEN])
    assert vault.shred(ANNA)
    assert not vault.shred(ANNA)
    assert vault.resolve(CRM, crm) is None and vault.resolve(HCP, hcp) is None
    assert vault.records(CRM, [ANNA]) == [crm] and vault.find(HCP, ANNA) == hcp
    (later,) = vault.records("other|PATSUPPORT", [ANNA])
    assert vault.resolve("other|PATSUPPORT", later) is None
    assert vault.resolve(CRM, ben) == BEN


def test_an_unknown_patient_cannot_be_shredded(vault: SqlVault) -> None:
    assert not vault.shred(ANNA)


def test_no_byte_of_a_shredded_key_is_left(state: Path, file: Callable[..., list[Any]]) -> None:
    vault = VaultRef(str(state)).open()
    vault.records(CRM, [ANNA])
    ((data_key, identity),) = file("SELECT data_key, identity FROM patients")

    def left() -> bool:
        on_disk = b"".join(path.read_bytes() for path in state.glob("vault.sqlite*"))
        return data_key in on_disk or identity in on_disk

    assert left()
    vault.shred(ANNA)
    assert not left()
    vault.close()


# --- What lies on the disk, and whose it is -----------------------------------


def test_nobody_is_named_on_the_disk(state: Path) -> None:
    vault = VaultRef(str(state)).open()
    vault.records(CRM, [ANNA])
    on_disk = b"".join(path.read_bytes() for path in state.glob("vault.sqlite*"))
    assert CRM.encode() in on_disk and b"CANARY" not in on_disk
    assert {path.stat().st_mode & 0o777 for path in state.glob("vault*")} == {0o600}
    vault.close()


def test_a_vault_of_another_keyset_is_refused(vault: SqlVault, reference: VaultRef, tmp_path: Path) -> None:
    record = vault.records(CRM, [ANNA])
    other = tmp_path / "other"
    keys.create(other)
    if not reference.database:
        vault.close()
        (Path(reference.state) / "vault.sqlite").rename(other / "vault.sqlite")
    with pytest.raises(StoreError, match="^vault_of_another_keyset$"):
        VaultRef(str(other), reference.database).open()
    if not reference.database:
        (other / "vault.sqlite").rename(Path(reference.state) / "vault.sqlite")
    assert vault.records(CRM, [ANNA]) == record


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param("UPDATE patients SET data_key = zeroblob(60)", id="data key"),
        pytest.param("UPDATE patients SET data_key = x'00'", id="cut data key"),
        pytest.param("UPDATE patients SET identity = zeroblob(60)", id="identity"),
        pytest.param("UPDATE patients SET identity = NULL", id="no identity"),
    ],
)
def test_a_damaged_row_is_never_an_answer(state: Path, file: Callable[..., list[Any]], damage: str) -> None:
    vault = VaultRef(str(state)).open()
    record, _ = vault.records(CRM, [ANNA, BEN])
    file(damage)
    with pytest.raises(StoreError, match="^vault_row_corrupt$"):
        vault.resolve(CRM, record)
    vault.close()


def test_another_patients_row_is_never_an_answer(state: Path, file: Callable[..., list[Any]]) -> None:
    vault = VaultRef(str(state)).open()
    anna, ben = vault.records(CRM, [ANNA, BEN])
    (row,) = file("SELECT data_key, identity FROM patients NATURAL JOIN records WHERE record = ?", ben)
    anna_row = "fingerprint = (SELECT fingerprint FROM records WHERE record = ?)"
    file(f"UPDATE patients SET data_key = ?, identity = ? WHERE {anna_row}", *row, anna)
    with pytest.raises(StoreError, match="^vault_row_corrupt$"):
        vault.resolve(CRM, anna)
    vault.close()


@pytest.mark.parametrize("value", [b"", b"\x00" * 15, "text of 16 signs"])
def test_a_damaged_record_is_never_an_answer(state: Path, file: Callable[..., list[Any]], value: bytes | str) -> None:
    vault = VaultRef(str(state)).open()
    vault.records(CRM, [ANNA])
    file("UPDATE records SET record = ?", value)
    for ask in (lambda: vault.records(CRM, [ANNA, BEN]), lambda: vault.find(CRM, ANNA)):
        with pytest.raises(StoreError, match="^vault_row_corrupt$"):
            ask()
    vault.close()


# --- When the database fails -------------------------------------------------


def said(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def test_a_failing_database_names_nobody(state: Path, file: Callable[..., list[Any]]) -> None:
    vault = VaultRef(str(state)).open()
    (record,) = vault.records(CRM, [ANNA])
    file("DROP TABLE records")
    for ask in (
        lambda: vault.records(CRM, [ANNA]),
        lambda: vault.find(CRM, ANNA),
        lambda: vault.resolve(CRM, record),
    ):
        with pytest.raises(StoreError, match="^vault_unavailable$") as caught:
            ask()
        assert "CANARY" not in said(caught.value) and "SELECT" not in said(caught.value)
    file("DROP TABLE patients")
    with pytest.raises(StoreError, match="^vault_unavailable$"):
        vault.shred(ANNA)
    vault.close()


def test_a_failed_write_leaves_nothing_half_done(state: Path, file: Callable[..., list[Any]]) -> None:
    vault = VaultRef(str(state)).open()
    file("CREATE TRIGGER no BEFORE INSERT ON records BEGIN SELECT RAISE(ABORT, 'no'); END")
    with pytest.raises(StoreError, match="^vault_unavailable$"):
        vault.records(CRM, [ANNA])
    assert file("SELECT count(*) FROM patients") == [(0,)]
    file("DROP TRIGGER no")
    (record,) = vault.records(CRM, [ANNA])
    assert vault.resolve(CRM, record) == ANNA
    vault.close()


def no_database(state: Path) -> None:
    (state / "vault.sqlite").write_bytes(b"no database" * 1000)


def a_folder(state: Path) -> None:
    (state / "vault.sqlite").mkdir()


def no_lock(state: Path) -> None:
    (state / "vault.lock").mkdir()


@pytest.mark.parametrize(
    "arrange, expected",
    [
        pytest.param(no_database, "^--state: vault.sqlite is no vault; ", id="no database"),
        pytest.param(a_folder, "^vault_unavailable$", id="a folder"),
        pytest.param(no_lock, "^vault_unavailable$", id="no lock"),
    ],
)
def test_a_vault_that_cannot_be_opened(state: Path, arrange: Callable[[Path], None], expected: str) -> None:
    arrange(state)
    with pytest.raises(LimenError, match=expected) as caught:
        VaultRef(str(state)).open()
    assert str(state) not in said(caught.value).splitlines()[-1]


def test_nothing_is_logged(state: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("sqlalchemy.engine").setLevel(logging.DEBUG)
        try:
            vault = VaultRef(str(state)).open()
            vault.records(CRM, [ANNA])
            vault.resolve(CRM, vault.records(CRM, [ANNA])[0])
            vault.close()
        finally:
            logging.getLogger("sqlalchemy.engine").setLevel(logging.NOTSET)
    assert not [record for record in caplog.records if record.name.startswith("sqlalchemy.engine")]


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://limen:CANARY@db/limen",
        "postgresql+psycopg://limen@db/limen?password=CANARY",
        "mysql://CANARY@db/limen",
        "sqlite:///CANARY",
        "CANARY",
    ],
)
def test_a_reference_holds_no_password_and_no_other_database(address: str) -> None:
    with pytest.raises(ConfigurationError, match="^vault database: ") as caught:
        VaultRef("state", address)
    assert "CANARY" not in said(caught.value).splitlines()[-1]


def test_an_open_vault_never_travels(vault: SqlVault) -> None:
    with pytest.raises((TypeError, LimenError)):
        pickle.dumps(vault)


# --- Many processes at once --------------------------------------------------

PEOPLE = [f"urn:id:HOSP\x1f{number}" for number in range(1000)]


def ask_at_once(references: list[VaultRef], seed: int, start: Any, results: Any) -> None:
    """As a worker of a first run: make the keys, make the vault, ask for everyone in an order of its own."""
    people, answers = random.Random(seed).sample(PEOPLE, len(PEOPLE)), []
    for reference in references:
        start.wait(60)
        try:
            keys.load_or_create(Path(reference.state))
            vault = reference.open()
            records = [record for at in range(0, 1000, 250) for record in vault.records(CRM, people[at : at + 250])]
            vault.close()
            answers.append(dict(zip(people, records, strict=True)))
        except LimenError as error:
            answers.append({"error": str(error).encode()})
    results.put(answers)


def answers_at_once(references: list[VaultRef], processes: int) -> list[list[dict[str, bytes]]]:
    context = multiprocessing.get_context("forkserver")
    start, results = context.Barrier(processes), context.Queue()
    started = [
        context.Process(target=ask_at_once, args=(references, seed, start, results)) for seed in range(processes)
    ]
    for process in started:
        process.start()
    answers = [results.get(timeout=120) for _ in started]
    for process in started:
        process.join(60)
    return answers


def test_first_runs_at_once_get_the_same_records(tmp_path: Path) -> None:
    references = [VaultRef(str(tmp_path / str(number))) for number in range(8)]
    answers = answers_at_once(references, processes=6)
    for number, reference in enumerate(references):
        records = answers[0][number]
        assert set(records) == set(PEOPLE) and len(set(records.values())) == 1000
        assert all(answer[number] == records for answer in answers)
        vault = reference.open()
        assert vault.records(CRM, PEOPLE) == [records[patient] for patient in PEOPLE]
        assert vault.resolve(CRM, records[PEOPLE[7]]) == PEOPLE[7]
        vault.close()


def test_processes_at_once_get_the_same_records_from_a_server(reference: VaultRef) -> None:
    answers = answers_at_once([reference], processes=4)
    assert set(answers[0][0]) == set(PEOPLE) and all(answer == answers[0] for answer in answers)


def test_a_severed_record_leads_nowhere_until_it_is_revived(vault: SqlVault) -> None:
    [record] = vault.records("crm|PATSUPPORT", ["one"])
    [other] = vault.records("crm|HCPVISIBLE", ["one"])
    vault.sever("crm|PATSUPPORT", ["one", "nobody"])
    assert vault.resolve("crm|PATSUPPORT", record) is None and vault.resolve("crm|HCPVISIBLE", other) == "one"
    assert vault.records("crm|PATSUPPORT", ["one"]) == [record]  # its name stays, so that it can be taken back
    assert vault.resolve("crm|PATSUPPORT", record) is None
    assert vault.records("crm|PATSUPPORT", ["one"], revive=True) == [record]
    assert vault.resolve("crm|PATSUPPORT", record) == "one"
