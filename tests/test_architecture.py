"""The structure that DESIGN describes, held: layers, the graph of the real job, what travels in it, closed tables.

tests/golden/steps.txt holds every step of that graph with the coders of its outputs. A streaming job is updated by
these names and coders, so a change to them shows in review; `make golden` writes the file anew, on purpose.
"""

import ast
import base64
import bz2
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import SetupOptions, StandardOptions, TypeOptions
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.typehints import typehints
from builders import a_milestone

from pipelines import keys, options, run
from pipelines.outputs import Outputs
from pipelines.sources import spans
from schemas.instant import BEGINNING
from schemas.keyset import Keyset
from schemas.outcome import Reason
from schemas.policy import Policy
from schemas.recipe import Action
from schemas.route import Route
from schemas.timeline import Moment
from transforms.rules.recipe import compiled

ROOT = Path(__file__).parent.parent
STEPS = ROOT / "tests/golden/steps.txt"
PACKAGES = ("schemas", "transforms", "pipelines", "policies")
OURS = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
WITH_BEAM = [path for path in OURS if path.relative_to(ROOT).parts[0] in ("transforms", "pipelines")]
PURE = [path for path in OURS if path.relative_to(ROOT).parts[0] == "schemas" or "rules" in path.parts]
THIRD_PARTY = {"msgspec", "pydantic", "cryptography", "pyarrow"}  # all that the pure layers may know of the world


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


# --- The graph of the real job, built and not run --------------------------------------------------------------------


class Graph(NamedTuple):
    """A pipeline as built, as a runner gets it, and the keyset that it refers to."""

    steps: list[AppliedPTransform]
    proto: Any
    keyset: Keyset


class _Steps(PipelineVisitor):
    def __init__(self) -> None:
        self.found: list[AppliedPTransform] = []

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        self.visit_transform(transform_node)

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        if transform_node.full_label:
            self.found.append(transform_node)


class _NotRun:
    def wait_until_finish(self) -> None:
        pass


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Graph:
    folder = tmp_path_factory.mktemp("graph")
    (folder / "feed.ndjson").write_bytes(b"{}\n")
    keyset = keys.create(folder / "state")
    request = options.request(
        [str(folder / "feed.ndjson")], folder / "out", folder / "state", None, "2026-05-01", [], folder / "ledger"
    )
    built: list[beam.Pipeline] = []

    def not_run(pipeline: beam.Pipeline, *_: object) -> _NotRun:
        built.append(pipeline)
        return _NotRun()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beam.Pipeline, "run", not_run)
        moment = Moment(request.horizon, BEGINNING)
        run._pipeline(request, Outputs(folder / "out", "a-run", {}), spans(request.inputs), 2, moment)
    [pipeline] = built
    visitor = _Steps()
    pipeline.visit(visitor)
    return Graph(visitor.found, pipeline.to_runner_api(), keyset)


def _coder(components: Any, name: str) -> str:
    """A coder as text: bytes, kv<bytes,bytes>."""
    coder = components.coders[name]
    inner = ",".join(_coder(components, part) for part in coder.component_coder_ids)
    kind: str = coder.spec.urn.split(":")[-2]
    return f"{kind}<{inner}>" if inner else kind


def _tree(proto: Any) -> Iterator[str]:
    """Each step that does something: what it is, its name, and the coder of each output."""
    components = proto.components
    for step in components.transforms.values():
        if not step.subtransforms:
            outputs = {o: _coder(components, components.pcollections[p].coder_id) for o, p in step.outputs.items()}
            shown = " ".join(f"{name}={outputs[name]}" for name in sorted(outputs))
            yield f"{step.unique_name}  {step.spec.urn.split(':')[-2]}  {shown}\n"


def test_golden_steps(graph: Graph) -> None:
    tree = "".join(sorted(_tree(graph.proto)))
    if os.environ.get("LIMEN_GOLDEN") == "write":
        STEPS.write_text(tree)
    assert tree == STEPS.read_text(), "steps or coders changed; if you mean it: make golden"


def _with_any(hint: object) -> bool:
    return hint is Any or isinstance(hint, typehints.AnyTypeConstraint) or "Any" in re.findall(r"\w+", repr(hint))


def test_no_element_of_the_graph_is_any(graph: Graph) -> None:
    types = {f"{s.full_label} {tag}": out.element_type for s in graph.steps for tag, out in s.outputs.items()}
    assert len(types) > 40
    assert [name for name, hint in types.items() if _with_any(hint)] == []


def test_keys_are_bytes_or_text(graph: Graph) -> None:
    """An untyped key crashes a portable runner; one of a type of ours carries its pickled class everywhere."""
    components = graph.proto.components
    grouped = {}
    for step in components.transforms.values():
        if step.spec.urn == "beam:transform:group_by_key:v1" and not step.unique_name.startswith("Read/Spread/"):
            [collection] = step.inputs.values()
            grouped[step.unique_name] = _coder(components, components.pcollections[collection].coder_id)
    assert grouped == {
        "Boundary/Timeline/OneShard": "kv<bytes,bytes>",
        "Boundary/Aggregate/OneRoute": "kv<string_utf8,bytes>",
    }


def test_nothing_is_flattened(graph: Graph) -> None:
    """Each way out has its own Audit: no Flatten, and no shuffle but the two groupings and the spread of the files."""
    urns = [step.spec.urn for step in graph.proto.components.transforms.values()]
    assert "beam:transform:flatten:v1" not in urns
    assert urns.count("beam:transform:group_by_key:v1") == 3


def test_every_label_is_explicit(graph: Graph) -> None:
    """Labels in the words of the business: Beam's own, inside its composites, are all that it may invent."""
    invented = []
    for step in graph.steps:
        transform, above = step.transform, step.parent.transform if step.parent else None
        assert transform is not None
        ours = above is None or type(above).__module__.partition(".")[0] in PACKAGES
        beams = type(transform).__module__.startswith("apache_beam.")
        if ours and beams and step.full_label.rpartition("/")[2] == transform.default_label():
            invented.append(step.full_label)
    assert invented == []


def _pickled(proto: Any) -> Iterator[bytes]:
    """What the graph carries in pickled form, as it was before Beam compressed it."""
    for step in proto.components.transforms.values():
        if step.spec.urn == "beam:transform:pardo:v1":
            parameters = beam_runner_api_pb2.ParDoPayload.FromString(step.spec.payload)
            yield bz2.decompress(base64.b64decode(parameters.do_fn.payload))
        elif step.spec.urn == "beam:transform:pickled_python:v1":
            yield bz2.decompress(base64.b64decode(step.spec.payload))


def test_no_key_travels_in_the_graph(graph: Graph) -> None:
    travels = b"".join([graph.proto.SerializeToString(), *_pickled(graph.proto)])
    for key in (graph.keyset.master, graph.keyset.signing):
        assert not any(form in travels for form in (key, key.hex().encode(), base64.b64encode(key)))


def test_default_options_are_safe() -> None:
    beams, _ = options.beam_options([])
    assert beams.view_as(StandardOptions).runner == "FnApiRunner"
    assert beams.view_as(SetupOptions).save_main_session is False
    assert not beams.view_as(TypeOptions).runtime_type_check
    assert not beams.view_as(StandardOptions).auto_unique_labels


# --- Layers -----------------------------------------------------------------------------------------------------------


def test_import_contracts() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", PURE, ids=named)
def test_pure_layers_import_nothing_new(path: Path) -> None:
    """The import contracts name what is forbidden; here all that is allowed from outside is named."""
    allowed = THIRD_PARTY | set(PACKAGES) | sys.stdlib_module_names
    assert _imported(path) - allowed == set()


def _imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None, "relative imports hide the layer"
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", WITH_BEAM, ids=named)
def test_annotations_are_not_postponed(path: Path) -> None:
    """Beam reads them at run time: postponed, every typed output turns into Any without a word."""
    assert "from __future__ import annotations" not in path.read_text()


# DESIGN section 5: these leak elements, lose them, or choose time or state by themselves.
FORBIDDEN = re.compile(
    r"with_exception_handling|DeduplicatePerKey|RequestResponseIO|WriteToFiles|WriteToText|WriteToParquet|REAL_TIME"
    r"|(?<!no_)save_main_session|runtime_type_check|auto_unique_labels|enable_data_sampling"
)


@pytest.mark.parametrize("path", WITH_BEAM, ids=named)
def test_no_forbidden_part_of_beam(path: Path) -> None:
    assert FORBIDDEN.findall(path.read_text()) == []


@pytest.mark.parametrize("path", OURS, ids=named)
def test_a_file_is_one_subject(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 350
    assert ast.get_docstring(ast.parse(text))


# --- Closed tables ----------------------------------------------------------------------------------------------------


def test_every_recipe_says_something_of_every_field(policy: Policy) -> None:
    """A field without a row is dropped, and the audit log says so."""
    for route in policy.routes:
        fates = compiled(route, policy)(a_milestone(), Reason.PERMITTED, ()).fates.split()
        assert {fate.partition(":")[0] for fate in fates} == {row.field for row in policy.fields}, route.route
        assert len(fates) >= len(policy.fields)


def test_fields_name_the_routes_that_let_them_pass(policy: Policy) -> None:
    """fields.yaml answers whom a field reaches; the recipes decide it."""

    def passes(field: str, route: Route) -> bool:
        return any(row.field == field and row.action is not Action.DROP for row in route.recipe)

    said = {row.field: set(row.consumers) for row in policy.fields}
    assert said == {field: {route.route for route in policy.routes if passes(field, route)} for field in said}
