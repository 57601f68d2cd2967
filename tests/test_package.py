"""The package as it is installed: everything is in it, and the auditor's verbs never wait for Beam."""

import os
import subprocess
import sys
import traceback
import zipfile
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import msgspec
import pytest

from pipelines import keys, program
from schemas.errors import MessageError
from schemas.outcome import Reason
from schemas.seal import QUARANTINE_INFO, Quarantined, seal
from transforms import rules

ROOT = Path(__file__).parent.parent
PACKAGES = ("pipelines", "policies", "schemas", "transforms")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that the clone stays as it is, and without network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for path in [*(p for name in PACKAGES for p in (ROOT / name).rglob("*.*")), ROOT / "setup.py"]:
        if path.suffix in (".py", ".yaml"):
            (source / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            (source / path.relative_to(ROOT)).write_bytes(path.read_bytes())
    offline = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet")
    command = [sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", str(folder), str(source)]
    pure = {**os.environ, "LIMEN_COMPILED": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=pure)
    assert done.returncode == 0, done.stderr
    [file] = folder.glob("limen-*.whl")
    return zipfile.ZipFile(file)


def test_every_module_and_policy_file_is_packaged(wheel: zipfile.ZipFile) -> None:
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for kind in ("*.py", "*.yaml")
        for path in (ROOT / package).rglob(kind)
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == wanted
    assert any(name.startswith("policies/default/routes/") for name in wanted)


def test_the_command_is_limen(wheel: zipfile.ZipFile) -> None:
    [name] = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
    assert wheel.read(name).decode().split() == ["[console_scripts]", "limen", "=", "pipelines.cli:main"]
    assert Path(str(wheel.filename)).name.startswith(f"limen-{program.VERSION}-")


def loaded(*arguments: str | Path) -> set[str]:
    """The modules that a fresh interpreter has loaded when the command is done."""
    script = (
        "import sys\n"
        "from pipelines import cli\n"
        "try:\n    cli.main()\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "print(*sys.modules, sep='\\n', file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def sealed(state: Path) -> Path:
    file = state.parent / "message.sealed"
    message = Quarantined("0" * 64, 7, "malformed", b"MSH|broken").encode()
    file.write_bytes(seal(message, keys.load(state).quarantine, QUARANTINE_INFO))
    return file


@pytest.mark.parametrize("verb", ["help", "version", "run help", "keys new", "quarantine open"])
def test_these_verbs_start_without_beam(verb: str, state: Path, tmp_path: Path) -> None:
    arguments: dict[str, list[str | Path]] = {
        "help": ["--help"],
        "version": ["--version"],
        "run help": ["run", "--help"],
        "keys new": ["keys", "new", tmp_path / "new"],
        "quarantine open": ["quarantine", "open", sealed(state), "--private-key", state / "quarantine/private.key"],
    }
    modules = loaded(*arguments[verb])
    assert "pipelines.cli" in modules
    assert not {"apache_beam", "grpc", "pyarrow", "sqlalchemy"} & modules


def test_a_run_does_load_beam(tmp_path: Path) -> None:
    """The test above looks in the right place."""
    (tmp_path / "feed.ndjson").write_bytes(b"{}\n")
    arguments = ("--input", tmp_path / "feed.ndjson", "--output", tmp_path / "out", "--state", tmp_path / "state")
    assert "apache_beam" in loaded("run", *arguments, "--json")


# --- the rules, compiled ---------------------------------------------------------------------------------------------


RULES = {name: import_module(f"transforms.rules.{name}") for _, name, _ in iter_modules(rules.__path__)}


@pytest.mark.skipif(os.environ.get("LIMEN_COMPILED") != "1", reason="make lane-compiled compiles the rules")
@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_compiled_unless_msgspec_reads_its_types(name: str) -> None:
    """mypyc drops the annotations by which msgspec knows what to read."""
    module = RULES[name]
    own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == module.__name__]
    structs = any(issubclass(one, msgspec.Struct) for one in own)
    assert Path(str(module.__file__)).suffix == (".py" if structs else ".so")


def test_an_error_does_not_say_what_it_came_from() -> None:
    """Compiled code does not know `from None`: an exception would print the bytes that could not be read."""
    try:
        try:
            b"\xff".decode()
        except UnicodeDecodeError:
            raise MessageError(Reason.BAD_ENCODING)  # noqa: B904  as mypyc reads it
    except MessageError as error:
        assert "UnicodeDecodeError" not in "".join(traceback.format_exception(error))
