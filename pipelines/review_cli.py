"""The verbs `limen review …`: list what waits, show one item, decide it."""

import json
from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ConfigurationError

review_app = typer.Typer(no_args_is_help=True, help="Items that a person at the hospital has to answer.")
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON, for machines.")]
ReviewFolder = Annotated[Path, typer.Argument(metavar="DIR", help="Output folder with review/.")]
ItemId = Annotated[str, typer.Argument(metavar="ID", help="The item's id, as review list prints it.")]
ReviewKey = Annotated[Path, typer.Option("--private-key", help="The reviewers' private key.")]
At = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="The instant it is, for tests of the deadlines.")
]


@review_app.command("list")
def review_list(folder: ReviewFolder, as_of: At = None, as_json: AsJson = False) -> None:
    """List the items that wait for an answer, by deadline. Nothing of a patient is printed.

    Example: limen review list out
    """
    from pipelines import review
    from pipelines.screen import many

    waiting, overdue = review.waiting(folder, as_of)
    if as_json:
        print(json.dumps({"items": [review.shown(item) for item in waiting], "overdue": overdue}))
        return
    for item in waiting:
        age = "no date" if item.age_days is None else f"{many(item.age_days, 'day')} old"
        print(f"{item.id}  until {item.deadline}  {item.route}  {item.reason}  {item.event}, {age}")
    print(f"to be answered: {many(len(waiting), 'item')}; overdue, and so suppressed: {overdue:,}")


@review_app.command("show")
def review_show(
    folder: ReviewFolder,
    item: ItemId,
    private_key: ReviewKey,
    by: Annotated[str | None, typer.Option("--by", metavar="WHO", help="Who looks; default: the login name.")] = None,
    as_json: AsJson = False,
) -> None:
    """Open an item's subject. That somebody looked is written to DIR/access/review.jsonl before anything is shown.

    Example: limen review show out ID --private-key .limen/review/private.key
    """
    from pipelines import review

    found = review.opened(folder, item, private_key, "show", by)
    shown = review.shown(found.item) | review.subject(found.subject)
    print(json.dumps(shown) if as_json else "\n".join(f"{name}: {value}" for name, value in shown.items()))


@review_app.command("decide")
def review_decide(
    folder: ReviewFolder,
    item: ItemId,
    private_key: ReviewKey,
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who decides.")],
    role: Annotated[str, typer.Option("--role", help="A role of the policy's review.roles.")],
    because: Annotated[str, typer.Option("--because", metavar="CODE", help="Why: a code of docs/review.md.")],
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where the verdict is added, as a line.")],
    allow: Annotated[bool, typer.Option("--allow", help="The reason for review is no obstacle.")] = False,
    deny: Annotated[bool, typer.Option("--deny", help="It does not leave on this route.")] = False,
    policy: Annotated[
        Path | None, typer.Option("--policy", help="Policy bundle of the next run; default: the shipped example.")
    ] = None,
    state: Annotated[Path, typer.Option("--state", help="Folder of the keyset, which signs.")] = Path(".limen"),
    as_of: At = None,
) -> None:
    """Answer an item: write a signed verdict, which is input of the next run like any other message.

    Example: limen review decide out ID --allow --by mueller --role privacy-officer --because consent_read
    --private-key .limen/review/private.key --output verdicts.jsonl
    """
    from pipelines import policy as policies
    from pipelines import review

    if allow == deny:
        raise ConfigurationError("--allow", "say either --allow or --deny", "name one of the two")
    answer = review.Answer("allow" if allow else "deny", by, role, because)
    known = policies.load(policy or policies.default())
    review.decide(folder, item, private_key, answer, state, known, output, as_of)
    print(f"verdict added to {output}: give it to the next run as --input")
