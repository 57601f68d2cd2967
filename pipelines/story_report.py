"""What a person reads of a story: each run, the messages in the order of what they tell, and what became of them."""

from collections import Counter

from rich.console import Console
from rich.markup import escape

from pipelines.screen import many
from pipelines.story import Became, Story
from schemas.outcome import Reason, Verdict

# docs/reasons.md in one plain sentence each; another reason stands for itself.
_PLAIN = {
    Reason.NO_CONSENT_NEEDED: "counted among others; a count of too few patients is withheld",
    Reason.WINDOW_OPEN: "its day is not over, or still open for late events",
    Reason.WINDOW_CLOSED: "its day was counted before this came",
    Reason.SUPERSEDED: "a newer milestone decides alone for this CRM record",
    Reason.REVOKED: "the permit was taken back",
    Reason.SAME_MESSAGE: "the same message again",
    Reason.SAME_MILESTONE: "another message had said the same",
    Reason.RECORDED: "it decides over what comes, and over what is out",
    Reason.DEMOGRAPHICS: "nothing of it crosses",
    Reason.NO_ROUTE: "no route asks for it",
    Reason.NO_MILESTONE: "it is not finished, so no milestone",
    Reason.MALFORMED: "it lies sealed in quarantine",
}


def tell(told: Story, console: Console) -> None:
    """The chronology, and how it ends."""
    for as_of, entries in told.runs:
        console.print(f"[bold]decided as of {as_of}[/]")
        for entry in entries:
            where = escape(", ".join(entry.places) or "as told above")
            console.print(f"  {entry.told.when or 'undated':20} {entry.told.what:15} {where}")
            for one in entry.became:
                _tell(one, console)
    left = [one.payload for one in told.became if one.payload]
    written = [one for one in left if "retracts" not in one]
    back: Counter[str] = Counter()
    for line in left:
        back[line["record"]] = max(back[line["record"]], line.get("retracts", 0))
    back_again = len(left) - len(written)
    shown = {one["record"] for one in written if one["recordseq"] > back[one["record"]]}
    console.print(
        f"{many(len(written), 'payload')} went to the CRM and {back_again} {'was' if back_again == 1 else 'were'} "
        f"taken back: {len(shown) or 'none'} of its records {'shows' if len(shown) == 1 else 'show'} this patient now"
    )


def _tell(one: Became, console: Console) -> None:
    """One outcome: where the payload stands, if anything left, and what it says; else the reason."""
    plain = _PLAIN.get(Reason(one.reason))
    why = f"{one.reason}: {plain}" if plain else one.reason
    says = ", ".join(f"{name} {value}" for name, value in one.payload.get("data", {}).items())
    lines = [one.place, says if one.verdict == Verdict.RELEASED else f"{why}; {says}"] if one.place else [why]
    console.print(
        f"    {one.route:17} {one.verdict:10} {escape(lines[0])}" if one.route else f"    {one.verdict}, {why}"
    )
    for line in lines[1:]:
        console.print(f"{'':33}{escape(line)}")
