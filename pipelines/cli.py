"""The command `limen`. Each verb loads what it needs when it is called: `keys` and `quarantine` load neither Beam
nor the rules.

Exit codes: 0 done (rejected messages are data) · 2 bad usage or configuration, nothing written · 3 a law was broken ·
1 anything else · 130 stopped by its operator. An error is one line: the option, the problem, the fix.
"""

import gc
import json
import logging
import sys
import traceback
from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from pipelines import screen
from pipelines.export_cli import RunFolder, export_app
from pipelines.review_cli import review_app
from pipelines.screen import many
from pipelines.version_cli import limen
from schemas.errors import ConfigurationError, LawBroken, LimenError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a rich traceback would print local variables
)
keys_app = typer.Typer(no_args_is_help=True, help="Keys: what a state folder holds.")
quarantine_app = typer.Typer(no_args_is_help=True, help="Sealed messages that could not be read.")
feed_app = typer.Typer(no_args_is_help=True, help="Feeds: what a source sends.")
app.callback()(limen)
app.add_typer(keys_app, name="keys")
app.add_typer(feed_app, name="feed")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(review_app, name="review")
app.add_typer(export_app, name="export")

State = Annotated[
    Path, typer.Option("--state", help="Folder of keyset and vault; made on first use, development keys.")
]
Bundle = Annotated[
    Path | None, typer.Option("--policy", help="Folder of a policy bundle; default: the shipped example.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]


@app.command(context_settings={"ignore_unknown_options": True})
def run(
    input_: Annotated[
        list[str], typer.Option("--input", metavar="PATH...", help="Files, folders or globs; repeat or list several.")
    ],
    output: Annotated[
        Path, typer.Option("--output", help="Folder for all outputs; of one run, or of the runs of one ledger.")
    ],
    rest: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PATH...] [BEAM OPTIONS]", help="More inputs; options of Apache Beam."),
    ] = None,
    policy: Bundle = None,
    state: State = Path(".limen"),
    as_of: Annotated[
        str | None,
        typer.Option(
            "--as-of", metavar="TIME", help="The instant of decision, 2026-05-01T12:00:00Z or a date; default: now."
        ),
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", help="File of all patients' timelines: consecutive runs then act as one stream."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decide over clinical and consent messages, and write payloads, review items and evidence.

    Reads HL7 v2 (any framing), FHIR R4 (resources, Bundles, NDJSON) and CloudEvents, recognised by content.

    Example: limen run --input feeds/ --output out --as-of 2026-05-01
    """
    from pipelines import options, report
    from pipelines.run import run as do

    gc.freeze()  # what is imported stays, and a batch's many small values die young: the collector may look seldom
    gc.set_threshold(50_000, 20, 100)
    request = options.request(input_, output, state, policy, as_of, rest or [], ledger)
    report.finished(do(request), output, request.policy, as_json=as_json)


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", help="New folder for feeds/ and truth.json.")],
    patients: Annotated[int, typer.Option("--patients", min=1, help="How many patients.")] = 200,
    days: Annotated[int, typer.Option("--days", min=1, help="How many days.")] = 30,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same bytes.")] = 1,
    batches: Annotated[
        int, typer.Option("--batches", min=1, help="How many consecutive deliveries: feeds/01, feeds/02, …")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Invent a hospital: feeds with consents, revocations, duplicates and defects, and the truth of what may leave.

    Example: limen simulate --patients 200 --days 30 --seed 1 --output hospital
    """
    from pipelines.simulated.simulate import simulate as do

    made = do(patients, days, seed, output, batches)
    if as_json:
        deliveries = [{"feeds": str(path), "as_of": as_of} for path, as_of in made.batches]
        told = {"feeds": str(made.feeds), "truth": str(made.truth), "as_of": made.as_of, "batches": deliveries}
        print(json.dumps({**told, **made.counts}))
        return
    console = screen.console()
    console.print(f"{many(made.counts['received'], 'message')} of {many(patients, 'patient')} in {made.feeds}")
    if batches == 1:
        console.print(f"what may leave stands in {made.truth}; decide with --as-of {made.as_of}")
        return
    console.print(f"what may leave in the end stands in {made.truth}; decide, one after another on one ledger:")
    for path, as_of in made.batches:
        console.print(f"{path} with --as-of {as_of}")


@app.command()
def score(
    folder: RunFolder,
    truth: Annotated[Path, typer.Option("--truth", help="truth.json of the simulated hospital.")],
    state: State = Path(".limen"),
    as_json: AsJson = False,
) -> None:
    """Compare what a run, or several on one ledger, released with the truth. Exit code 3 if it is not the same.

    Example: limen score out --truth hospital/truth.json
    """
    from pipelines import report
    from pipelines.score import score as do

    result = do(folder, truth, state)
    report.scored(result, as_json=as_json)
    if not result.right:
        raise typer.Exit(3)


@app.command()
def story(
    folder: RunFolder,
    truth: Annotated[Path, typer.Option("--truth", help="truth.json of the simulated hospital; its feeds beside it.")],
    state: State = Path(".limen"),
) -> None:
    """Tell the way of one invented patient: what the hospital said, what left, what did not and why, by file and line.

    For simulated hospitals only: their truth.json names the patient. Shows no identifier of anybody.

    Example: limen story out --truth hospital/truth.json
    """
    from pipelines.story import story as do
    from pipelines.story_report import tell

    tell(do(folder, truth, state), screen.console())


@app.command()
def contracts(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of published contracts.")],
    policy: Bundle = None,
) -> None:
    """Publish as JSON Schema the contract of each payload route and of retractions. A published one never changes.

    Example: limen contracts docs/contracts
    """
    from pipelines import policy as policies
    from pipelines.export import publish_contracts

    new = publish_contracts(folder, policies.load(policy or policies.default()))
    print(f"published in {folder}: {', '.join(new) or 'nothing new'}")


@feed_app.command("check")
def feed_check(
    paths: Annotated[list[str], typer.Argument(metavar="PATH...", help="Files, folders or globs.")],
    policy: Bundle = None,
    profile: Annotated[
        Path | None, typer.Option("--profile", metavar="FILE", help="A recorded profile: report what has changed.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", metavar="FILE", help="Write the profile of this feed, for later checks.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what a feed holds, without deciding anything: counts, coverage, drift. No patient's data is printed.

    Example: limen feed check feeds/ --record general.json
    """
    from pipelines import feed_check as feeds
    from pipelines import feed_record, feed_report
    from pipelines import policy as policies

    known = policies.load(policy or policies.default())
    before = None if profile is None else feed_record.recorded(profile)
    if record is not None:
        feed_record.recordable(record)
    feed = feeds.check(paths, known, before)
    if record is not None:
        feed_record.record(feed.profile, record)
    if as_json:
        print(json.dumps(feed.as_json()))
        return
    console = screen.console()
    feed_report.shown(feed, console)
    if record is not None:
        console.print(f"profile written to {record}", markup=False)


@keys_app.command("new")
def keys_new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="New state folder.")],
) -> None:
    """Make a keyset: one secret, a signing key, and the key pairs of quarantine and review. Development keys."""
    from pipelines import keys

    keyset, made = keys.load_or_create(folder)
    if not made:
        raise ConfigurationError("DIR", f"{folder} holds a keyset already", "name a new folder")
    screen.console().print(
        f"keyset {keyset.keyid} in {folder}: development keys.\n"
        f"Move {folder}/quarantine and {folder}/review to those who may open them; the job never needs them."
    )


@quarantine_app.command("open")
def quarantine_open(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sealed files, DIR/quarantine/*.sealed.")],
    private_key: Annotated[Path, typer.Option("--private-key", help="The quarantine's private key.")],
    raw: Annotated[bool, typer.Option("--raw", help="Write only the message's bytes.")] = False,
) -> None:
    """Open sealed messages. What comes out holds a patient's data: mind where it goes.

    Example: limen quarantine open out/quarantine/*.sealed --private-key .limen/quarantine/private.key
    """
    from pipelines.quarantine import opened

    for message in opened(files, private_key):
        if not raw:
            header = f"reason {message.reason} · input {message.file[:16]} · byte {message.position}"
            sys.stdout.buffer.write(header.encode() + b"\n")
        sys.stdout.buffer.write(message.body + (b"" if raw else b"\n"))


STOPPED = 130  # exit code of a command that its operator stopped (128 + SIGINT)
# The base of Typer's errors of usage, which has no public name of its own.
USAGE = cast(type[typer.BadParameter], typer.BadParameter.__base__)


def _misspelt(error: typer.BadParameter) -> ConfigurationError | None:
    """Of a command that leaves options to Beam: why --output is missing may be that it was written --outptu."""
    if error.ctx is None or not error.ctx.ignore_unknown_options:
        return None
    from pipelines.options import misspelt

    return misspelt(sys.argv[2:])


def main() -> None:
    """The entry point: every error of ours is one line on stderr and an exit code."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    # Beam warns on import that a Google client, which nothing here uses, is not installed.
    logging.getLogger().addFilter(lambda record: not str(record.msg).startswith("apitools not found"))
    try:
        code = app(standalone_mode=False, prog_name="limen")
        if code == STOPPED:  # Typer's own word for a KeyboardInterrupt
            raise KeyboardInterrupt
        sys.exit(code)
    except USAGE as error:
        command = error.ctx.command_path if error.ctx else "limen"
        if wrong := _misspelt(error):
            console.print(f"limen: {wrong}", markup=False)
        elif message := error.format_message():  # without one, the help was shown already
            console.print(f"limen: {message.rstrip('.')}; see {command} --help", markup=False)
        sys.exit(2)
    except ConfigurationError as error:
        console.print(f"limen: {error}", markup=False)
        sys.exit(2)
    except KeyboardInterrupt:
        console.print("limen: stopped; repeat the command, it takes up where it is safe", markup=False)
        sys.exit(STOPPED)
    except LawBroken as error:
        console.print(f"limen: a law was broken, outputs are unusable: {error}", markup=False)
        sys.exit(3)
    except LimenError as error:
        console.print(f"limen: {error}", markup=False)
        sys.exit(1)
    except Exception as defect:  # noqa: BLE001  ours; its text may quote a value: only kind and place are shown
        place = traceback.extract_tb(defect.__traceback__)[-1]
        where = f"{Path(place.filename).name}:{place.lineno}"
        what = f"defect {type(defect).__name__} at {where}"
        console.print(f"limen: {what}: repeat the command, it takes up where it is safe", markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
