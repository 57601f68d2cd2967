"""The words are true: what README and docs name is there, what they show comes out, what they say to type works."""

import ast
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest
import typer
import yaml
from hospital_files import Said, command, decide, lines, of_every_kind, payloads, records
from pages import README, ROOT, blocks, first_words, marked, prose, tables, words

from pipelines import boundary, cli, options
from pipelines import policy as policies
from pipelines.run import run
from pipelines.simulated.simulate import simulate
from schemas import audit_record
from schemas.outcome import Reason, Verdict
from schemas.policy import Policy
from schemas.recipe import _LEVELS, Action, Row
from schemas.route import Filters, Route
from transforms.rules import fhir_consent, fhir_criteria
from transforms.rules.review import Closed, Item

PAGES = sorted([README, ROOT / "CHANGELOG.md", *ROOT.glob("docs/**/*.md")])
WITH_COMMANDS = [page for page in PAGES if "```sh\n" in page.read_text()]


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


each_page = pytest.mark.parametrize("page", PAGES, ids=named)


# --- what is named exists -----------------------------------------------------------------------------------------


@each_page
def test_links_resolve(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        path, _, anchor = target.partition("#")
        file = page.parent / path if path else page
        assert file.exists(), target
        titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


@each_page
def test_paths_exist(page: Path) -> None:
    folders = r"(pipelines|transforms|schemas|policies|tests|docs|benchmarks)/"
    paths = [word.partition("::")[0] for word in words(prose(page)) if re.match(folders, word)]
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_drawing_is_that_of_the_boundary() -> None:
    drawn = [line for line in (boundary.__doc__ or "").splitlines() if "─" in line]
    assert len(drawn) == 5
    assert "\n".join(drawn) in README.read_text()


def functions(file: Path) -> set[str]:
    """The functions at the top of a module, private ones too."""
    return {node.name for node in ast.parse(file.read_bytes()).body if isinstance(node, ast.FunctionDef)}


def test_every_guarantee_names_its_code_and_its_tests() -> None:
    rows = tables(README, "Guarantees")
    assert len(rows) >= 10
    for claim, enforced, proven in rows:
        assert words(enforced) and all((ROOT / path).is_file() for path in words(enforced)), claim
        assert words(proven), claim
        for name in words(proven):
            path, _, function = name.partition("::")
            assert path.startswith("tests/test_") and function.startswith("test_"), name
            assert (ROOT / path).is_file(), name
            assert function in functions(ROOT / path), name


@each_page
def test_options_exist(page: Path) -> None:
    """Every `--option` of the prose is one of a verb's, or of Beam's."""
    verbs = "".join(path.read_text() for path in sorted(ROOT.glob("pipelines/*cli.py")))
    known = set(re.findall(r"\"(--[a-z-]+)\"", verbs)) | {"--help"}
    named = [word for word in words(prose(page)) if word.startswith("--")]
    beams = [word for word in named if "=" in word]
    assert {word.split()[0] for word in named if word not in beams} <= known
    assert options.beam_options([flag for word in beams for flag in word.split()])[1] == []


def verbs(app: typer.Typer) -> set[str]:
    """Every command of an app, with the names of the groups that it is in."""
    own = {one.name or (one.callback.__name__ if one.callback else "") for one in app.registered_commands}
    inner = {
        f"{one.name} {verb}"
        for one in app.registered_groups
        if one.typer_instance
        for verb in verbs(one.typer_instance)
    }
    return own | inner


def test_every_verb_is_named_and_no_other() -> None:
    known = verbs(cli.app)
    assert "quarantine open" in known
    said = {" ".join(word.split()) for page in PAGES for word in words(prose(page)) if word.startswith("limen ")}
    assert {verb for verb in known if not any(re.match(rf"limen {verb}\b", one) for one in said)} == set()
    assert {
        one for one in said if not any(re.match(rf"limen {verb}\b", one) for verb in (*known, "--version"))
    } == set()


@each_page
def test_nothing_is_named_that_only_one_machine_knows(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"(?<![\w.>])/(?:work|tmp|home|root|usr|var|opt|Users)\b", text) == []
    hosts = set(re.findall(r"https?://([^/\s\"]+)", text))
    assert hosts <= {"terminology.hl7.org", "loinc.org"}  # names of code systems


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 220


# --- what they say to type works ----------------------------------------------------------------------------------

Shell = Callable[[str], None]


@pytest.fixture
def limen(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Said]:
    monkeypatch.setenv("COLUMNS", "120")
    return lambda *arguments: command(capsys, monkeypatch, *arguments)


@pytest.fixture
def shell(limen: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """Do what one line of a block says, in a folder that holds what the README says to put there."""
    monkeypatch.chdir(tmp_path)
    for name, text in marked(README, "file:").items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    def do(line: str) -> None:
        program, *arguments = shlex.split(line, comments=True)
        if program == "limen":
            said = limen(*arguments)
            assert said.code == 0, said
        elif program == "make":
            assert set(arguments) <= targets(), line
        elif (program, *arguments[:1]) == ("cp", "-r"):
            shutil.copytree(ROOT / arguments[1], tmp_path / arguments[2])
        else:
            pytest.fail(f"not a command that this test knows how to try: {program}")

    return do


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=named)
def test_commands_work(page: Path, shell: Shell) -> None:
    for block in blocks(page):
        if block.language == "sh":
            for line in block.text.splitlines():
                shell(line)


def test_the_review_page_is_walked_as_it_stands(tmp_path: Path) -> None:
    """By a shell and by the clock, with nothing but what the page says to type: an item is answered, and leaves."""
    program = tmp_path / "bin/limen"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec env PYTHONPATH="{ROOT}" "{sys.executable}" -m pipelines.cli "$@"\n')
    program.chmod(0o700)
    typed = "".join(block.text for block in blocks(ROOT / "docs/review.md") if block.language == "bash")
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", typed], cwd=tmp_path / "empty", capture_output=True, text=True, check=False,
        env={**os.environ, "PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (
        "to be answered: 4 items; overdue, and so suppressed: 0" in done.stdout and "identifier: 12345" in done.stdout
    )
    assert payloads(tmp_path / "empty/out") == []
    assert [one["type"] for one in payloads(tmp_path / "empty/out-decided")] == ["limen.hcp-notification.v1"]
    assert len(lines(tmp_path / "empty/out-decided", "review")) == 3


def test_both_shapes_of_a_review_line_are_described() -> None:
    [example] = [block.text for block in blocks(ROOT / "docs/review.md") if block.language == "json"]
    assert msgspec.json.decode(example, type=Closed, strict=True).closed in set(Reason)
    assert tuple(json.loads(example)) == Closed.__struct_fields__
    section = next(part for part in prose(ROOT / "docs/review.md").split("\n## ") if part.startswith("What is in"))
    assert set(Item.__struct_fields__) <= set(words(section))


@each_page
def test_make_targets_exist(page: Path) -> None:
    said = {word.split()[1] for word in words(prose(page)) if word.startswith("make ")}
    assert said <= targets()


def anywhere(line: str) -> str:
    """A printed line, wherever in its file a payload stands, and under whichever policy it was decided."""
    return re.sub(r"(?<=\.jsonl:)\d+|(?<=Z-)[bcdfghjkmnpqrstz]{12}", "…", line)


def test_the_demo_prints_what_the_readme_shows(
    limen: Callable[..., Said], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lines shown, in their order; "…" stands for lines left out. Sizes and seed are those of the Makefile. Where a
    payload stands in its file is up to the keys, which are new each time; a run's name is up to the policy's digest."""
    monkeypatch.chdir(tmp_path)
    makefile = (ROOT / "Makefile").read_text()
    [flags] = re.findall(r"limen simulate (.*) --output", makefile)
    echoed = re.findall(r'^\t@echo "(.*\$\(DEMO\).*)"$', makefile, re.MULTILINE)
    hospital, out = ".demo/hospital", (".demo/out", "--state", ".demo/state")
    said = [limen("simulate", *flags.split(), "--output", hospital)]
    for one in json.loads(Path(hospital, "batches.json").read_bytes()):
        feeds, ledger = f"{hospital}/{one['feeds']}", (".demo/ledger.sqlite", "--as-of", one["as_of"])
        said.append(limen("run", "--input", feeds, "--ledger", *ledger, "--output", *out))
    said += [limen(verb, "--truth", f"{hospital}/truth.json", *out) for verb in ("score", "story")]
    assert {one.code for one in said} == {0} and len(said) > 4

    printed = [line.rstrip() for one in said for line in one.out.splitlines()]
    printed += [line.replace("$(DEMO)", ".demo") for line in echoed]
    shown = [anywhere(line) for line in marked(README, "demo")[""].splitlines() if line != "…"]
    rest = iter([anywhere(line) for line in printed])
    missing = [line for line in shown if line not in rest]
    assert missing == [], "\n".join(["this is printed:", *printed])
    named = [line.split()[-1].replace("$(DEMO)", ".demo").replace("<route>", "*") for line in echoed]
    assert [path for path in named if not list(tmp_path.glob(path))] == []


# --- your own data ------------------------------------------------------------------------------------------------


def of_readme(folder: Path, change: Callable[[dict[str, Any]], object] = lambda consent: None) -> Path:
    """The README's two messages, the consent changed."""
    folder.mkdir(parents=True)
    for name, text in marked(README, "file:").items():
        content: Any = text
        if name.endswith(".json"):
            change(content := json.loads(text))
        (folder / Path(name).name).write_text(content if content is text else json.dumps(content))
    return folder


def test_the_readme_s_consent_releases_one_payload(tmp_path: Path, policy: Policy) -> None:
    done = decide([of_readme(tmp_path / "feeds")], tmp_path / "out", tmp_path / "state", "2026-05-01")
    assert done.summary["routes"]["patient-support"]["released"] == 1
    [revision] = [route.recipe_revision for route in policy.routes if route.route == "patient-support"]
    assert [payload["recipe"] for payload in payloads(tmp_path / "out")] == [f"patient-support@{revision}"]


@pytest.mark.parametrize(
    "change, as_of",
    [
        pytest.param(lambda c: c["provision"].pop("purpose"), "2026-05-01", id="no purpose"),
        pytest.param(lambda c: c["provision"].pop("actor"), "2026-05-01", id="no recipient"),
        pytest.param(lambda c: c["provision"]["actor"][0].pop("role"), "2026-05-01", id="no role"),
        pytest.param(lambda c: c.update(status="inactive"), "2026-05-01", id="not active"),
        pytest.param(lambda c: c.update(dateTime="2026-04-22T00:00:00Z"), "2026-05-01", id="given too late"),
        pytest.param(lambda c: c["patient"]["identifier"].update(value="12346"), "2026-05-01", id="another patient"),
        pytest.param(lambda c: None, "2027-04-02", id="run out by --as-of"),
    ],
)
def test_without_any_part_of_it_nothing_is_released(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], as_of: str
) -> None:
    done = decide([of_readme(tmp_path / "feeds", change)], tmp_path / "out", tmp_path / "state", as_of)
    assert done.summary["pairs"] > 0
    assert payloads(tmp_path / "out") == []


# --- examples are of the real shape -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return of_every_kind(tmp_path_factory.mktemp("docs"))


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of three deliveries, one after another on one ledger."""
    folder = tmp_path_factory.mktemp("deliveries")
    for feeds, as_of in simulate(150, 7, 1, folder / "hospital", 3).batches:
        stores = (folder / "out", folder / "state", None, as_of, [], folder / "ledger.sqlite")
        run(options.request([str(feeds)], *stores))
    return folder / "out"


def written(out: Path, kind: str) -> list[dict[str, Any]]:
    """All that a run wrote of a kind, each as what its JSON or its row holds."""
    if kind == "summary":
        return [json.loads((out / "summary.json").read_bytes())]
    if kind == "manifest":
        return [json.loads(path.read_bytes()) for path in out.glob("manifest/*.json")]
    if kind == "aggregates":
        found = [row for path in out.glob("aggregates/*.parquet") for row in pq.read_table(path).to_pylist()]
        return [row | {"day": str(row["day"])} for row in found]
    if kind == "audit":
        return [row | {"horizon": f"{row['horizon']:%Y-%m-%dT%H:%M:%SZ}"} for row in records(out)]
    return [json.loads(line) for line in lines(out, kind)]


EXCERPTS = {"manifest/signed/facts", "summary/routes", "summary/reasons", "summary/unrouted_types"}


def leaves(value: Any, where: str) -> Iterator[tuple[str, Any]]:
    """(path, value) of every leaf. The names in an object are a leaf too, but where an example shows only some."""
    if isinstance(value, dict):
        if where not in EXCERPTS:
            yield where, sorted(value)
        for name, one in value.items():
            yield from leaves(one, f"{where}/{name}")
    elif isinstance(value, list):
        for one in value:
            yield from leaves(one, f"{where}[]")
    else:
        yield where, value


def shape(value: Any) -> Any:
    """How a value looks: words as they are; opaque names and digests by their length, figures as such."""
    if not isinstance(value, str):
        return value if isinstance(value, list) else type(value)
    value = re.sub(r"[bcdfghjkmnpqrstz]{12,}", lambda found: f"<{len(found[0]) * '~'}>", value)
    value = re.sub(r"\b[0-9a-f]{12,}\b", lambda found: f"<{len(found[0]) * '#'}>", value)
    return re.sub(r"\d", "9", value)


def looks_like(example: Any, real: list[Any]) -> bool:
    if not isinstance(example, str) or not example.endswith("…"):
        return shape(example) in [shape(one) for one in real]
    begun = example.removesuffix("…").rstrip()
    alphabets = (r"[0-9a-f]+", r"[0-9A-Za-z+/=]+")  # a digest, base64
    return any(one.startswith(begun) for one in real) or any(
        re.fullmatch(alphabet, begun) and all(re.fullmatch(alphabet, one) for one in real) for alphabet in alphabets
    )


EXAMPLES = marked(README, "example:")


def test_there_is_an_example_of_each_kind() -> None:
    assert set(EXAMPLES) == {"crm/patient-support", "audit", "review", "aggregates", "manifest", "summary"}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_have_the_real_shape(out: Path, kind: str) -> None:
    real: dict[str, list[Any]] = {}
    for one in written(out, kind):
        for where, value in leaves(one, kind):
            real.setdefault(where, []).append(value)
    for where, value in leaves(json.loads(EXAMPLES[kind]), kind):
        assert where in real, where
        assert looks_like(value, real[where]), where


def test_the_example_of_an_audit_record_is_that_of_the_payload_s() -> None:
    payload, record = (json.loads(EXAMPLES[kind]) for kind in ("crm/patient-support", "audit"))
    assert [payload[name] for name in ("id", "record", "correlationid", "recipe", "deidlevel")] == [
        record[name] for name in ("payload", "crm_record", "correlationid", "recipe", "level")
    ]


def test_every_output_is_described(out: Path) -> None:
    patterns = [re.sub("<.*?>", "*", pattern) for pattern in first_words(README, "What comes out")]
    described = {path for pattern in patterns for path in out.glob(pattern)}
    found = {path for path in out.rglob("*") if path.is_file() and path.name != ".lock" and path.suffix != ".pem"}
    assert described == found


# --- tables are complete ------------------------------------------------------------------------------------------


def reasons() -> list[list[str]]:
    """The rows of the table of reasons."""
    return [row for row in tables(ROOT / "docs/reasons.md", "Reasons") if len(row) == 4]


def test_every_verdict_and_reason_is_explained() -> None:
    assert first_words(ROOT / "docs/reasons.md", "Verdicts") == list(Verdict)
    assert [word for row in reasons() for word in words(row[0])] == list(Reason)
    assert all(all(row) for row in reasons())


def test_reasons_come_with_the_verdicts_that_are_said(out: Path, deliveries: Path) -> None:
    said = {words(row[0])[0]: set(row[1].split(", ")) for row in reasons()}
    assert set().union(*said.values()) <= set(Verdict)
    seen = {(record["verdict"], record["reason"]) for record in records(out)}
    assert len(seen) > 20
    assert {(verdict, reason) for verdict, reason in seen if verdict not in said[reason]} == set()

    rows = [row for row in tables(ROOT / "docs/reasons.md", "Reasons") if len(row) == 3]
    over = {words(row[0])[0]: set(row[1].split(", ")) for row in rows}
    seen = {(record["verdict"], record["reason"]) for record in records(deliveries)}
    assert {verdict for verdict, _ in seen} >= over.keys() - {"restored"}  # that takes a verdict: tests/test_review.py
    assert len([verdict for verdict, _ in seen if verdict in over]) > 10
    unsaid = {(v, r) for v, r in seen if v not in said[r] and not said[r] & over.get(v, set())}
    assert unsaid == set()


CONSENT_RULES = (
    "consent",
    "consent_versions",
    "consent_forms",
    "jurisdiction",
    "fhir_consent",
    "fhir_consent_elements",
    "fhir_consent_source",
    "fhir_provision",
    "fhir_criteria",
    "hl7_consent",
)


@pytest.mark.parametrize("file", [f"transforms/rules/{name}.py" for name in CONSENT_RULES])
def test_every_function_of_the_consent_rule_is_explained(file: str) -> None:
    public = {name for name in functions(ROOT / file) if not name.startswith("_")}
    assert set(first_words(ROOT / "docs/consent.md", file)) == public


def test_every_element_of_a_consent_that_is_read_is_explained() -> None:
    said = " ".join(first_words(ROOT / "docs/consent.md", "What the reader takes from a Consent"))
    for struct in (fhir_consent.ConsentResource, fhir_criteria.Provision):
        for name in struct.__struct_fields__:
            assert re.search(rf"\b{name.rstrip('_')}\b", said), name


def test_every_column_of_the_audit_record_is_explained() -> None:
    said = first_words(ROOT / "docs/audit.md", "The audit log, and how to check a run by hand")
    assert said == audit_record.SCHEMA.names


def test_the_policy_page_is_complete() -> None:
    page = ROOT / "docs/policy.md"
    files = set(first_words(page, "Writing a policy"))
    assert files == {*policies.KNOWN, "routes/<route>.yaml"}
    assert sorted(first_words(page, "A route")) == sorted(Route.model_fields)
    assert first_words(page, "A recipe") == list(Action)
    levels = {tuple(words(row[0] + row[1])): words(row[2])[0] for row in tables(page, "Levels")}
    assert levels == {(str(points), str(action)): level.label for (points, action), level in _LEVELS.items()}


def test_the_policy_page_s_rows_load() -> None:
    filters, rows = [yaml.safe_load(one.text) for one in blocks(ROOT / "docs/policy.md") if one.language == "yaml"]
    assert [Row.model_validate(row) for row in rows]
    assert Filters.model_validate(filters["filters"]).model_fields_set == set(Filters.model_fields)


def test_what_the_readme_says_of_the_default_policy(policy: Policy) -> None:
    limits = next(part for part in README.read_text().split("\n## ") if part.startswith("Limits"))
    assert {route.route for route in policy.routes} <= set(words(limits))
    assert policy.limits.smallest_cell == 11
    assert {route.wait_days for route in policy.routes} == {1}
