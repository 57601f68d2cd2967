"""Options of the commands, promoted once to a checked, frozen value; what is wrong is said before anything is done."""

import argparse
import glob
import os
from collections.abc import Iterable
from datetime import UTC, date, datetime, tzinfo
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import create_runner

from pipelines import keys
from pipelines import policy as policies
from pipelines.inputs import Input, find
from pipelines.vault import FILE as VAULT
from schemas.errors import ConfigurationError
from schemas.instant import SECOND, day_of, from_fhir, micros, zone
from schemas.policy import Policy

OURS = ("--input", "--output", "--policy", "--state", "--as-of", "--ledger", "--json", "--help")  # of `limen run`
_NEAR = 0.8  # how like another an option must be to be taken for a slip of the fingers


class Request(NamedTuple):
    """What `limen run` was asked for. `horizon` in microseconds UTC; `explicit`: --as-of was given. `ledger`: where the
    timelines lie between two runs."""

    inputs: list[Input]
    output: Path
    state: Path
    policy: Policy
    horizon: int
    explicit: bool
    beam: PipelineOptions
    ledger: Path | None = None


def request(
    paths: list[str],
    output: Path,
    state: Path,
    policy: Path | None,
    as_of: str | None,
    flags: list[str],
    ledger: Path | None = None,
) -> Request:
    """Check everything that can be checked without writing. Raises ConfigurationError."""
    beam, extra = beam_options(flags)
    if not paths and not extra:
        raise ConfigurationError("--input", "no path was given", "name files, folders or globs")
    known = policies.load(policy or policies.default())
    local = zone(known.zone)
    horizon = _horizon(as_of, local)
    day = date.fromisoformat(day_of(horizon, local))
    if not known.valid.begins <= day <= known.valid.ends:
        raise ConfigurationError("--policy", f"{known.name} is not valid on that day", "name a policy valid at --as-of")
    folders = [("--output", output), ("--state", state)]
    if ledger is not None:
        if ledger.is_dir():
            raise ConfigurationError("--ledger", f"{ledger} is a folder", "name a file in it, such as ledger.sqlite")
        if os.path.realpath(ledger) == os.path.realpath(state / VAULT):
            raise ConfigurationError("--ledger", f"{ledger} is the vault", "name a file of its own")
        folders.append(("--ledger", ledger.parent))
    for option, folder in folders:
        _writable(option, folder)
    keys.usable(state)
    inputs = find([*paths, *extra], none=ledger is not None)
    places = {"--output": output, "--state": state, **({"--ledger": ledger} if ledger else {})}
    for option, place in places.items():
        inside = Path(os.path.realpath(place))
        if any(inside in Path(one.path).parents for one in inputs) or _below(inside, [*paths, *extra]):
            raise ConfigurationError(option, f"{place} lies within --input", "name a place that is not read")
    for option, other in (("--state", "--output"), ("--output", "--state")):
        inner, outer = (Path(os.path.realpath(places[name])) for name in (option, other))
        if outer in (inner, *inner.parents):
            fix = "keep the keys and what is handed over apart"
            raise ConfigurationError(option, f"{places[option]} lies within {other}", fix)
    return Request(inputs, output, state, known, horizon, as_of is not None, beam, ledger)


def beam_options(flags: list[str]) -> tuple[PipelineOptions, list[str]]:
    """Beam's own options, and what is left: further input paths. An option that nobody knows is an error."""
    parser = _beam_parser()
    try:
        _, left = parser.parse_known_args(flags)
    except argparse.ArgumentError as error:
        [action] = [one for one in parser._actions if "/".join(one.option_strings) == error.argument_name]  # noqa: SLF001
        kind = f"one of {', '.join(action.choices)}" if action.choices else "a number" if action.type else "a value"
        problem = "its value is missing or of the wrong kind"
        raise ConfigurationError(str(error.argument_name), problem, f"Beam wants {kind}") from None
    if wrong := misspelt(left):
        raise wrong
    used = [flag for flag in flags if flag not in left]
    # FnApiRunner by name: DirectRunner would try another engine first. Session pickling would ship this module's state.
    runner = [] if any(flag.startswith("--runner") for flag in used) else ["--runner=FnApiRunner"]
    options = PipelineOptions([*runner, *used, "--no_save_main_session"])
    name = options.view_as(StandardOptions).runner
    try:
        create_runner(name)
    except (ValueError, ImportError, AttributeError):
        raise ConfigurationError("--runner", f"{name} cannot be loaded", "name a runner that is installed") from None
    return options, left


def misspelt(arguments: Iterable[str]) -> ConfigurationError | None:
    """The first argument that looks like an option and is neither ours nor Beam's, as an error; None if all are."""
    names = [one.split("=")[0] for one in arguments if one.startswith("-")]
    beams = _beam_parser()._option_string_actions if names else {}  # noqa: SLF001  argparse lists them nowhere else
    for name in names:
        if name not in OURS and name not in beams:
            near = get_close_matches(name, OURS, 1, _NEAR) or get_close_matches(name, beams, 1, _NEAR)
            fix = f"did you mean {near[0]}?" if near else "see limen run --help"
            return ConfigurationError(name, "no such option", fix)
    return None


def _beam_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for group in PipelineOptions.__subclasses__():
        group._add_argparse_args(parser)  # type: ignore[arg-type]  # noqa: SLF001  Beam's own way to list what it knows
    return parser


def _horizon(as_of: str | None, local: tzinfo) -> int:
    if as_of is None:
        return micros(datetime.now(UTC).replace(microsecond=0))
    found = from_fhir(as_of, local)
    if found is None:
        raise ConfigurationError("--as-of", "not a time", "write it as 2026-05-01T12:00:00Z or 2026-05-01")
    # a date means the end of that day, in the policy's zone and to the second
    return found.time + max(found.span - SECOND, 0)


def _below(folder: Path, paths: list[str]) -> bool:
    """Is the folder one of the input folders, or somewhere below one?"""
    found = [one for path in paths for one in (glob.glob(path, recursive=True) or [path])]
    return any(Path(os.path.realpath(one)) in (folder, *folder.parents) for one in found if Path(one).is_dir())


def _writable(option: str, folder: Path) -> None:
    """The folder, or the nearest folder above it that exists, is one that this user may write."""
    above = folder.absolute()
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise ConfigurationError(option, f"{folder} cannot be written", "name a folder that this user may write")
