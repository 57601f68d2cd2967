"""What a person reads of a feed: a few tables, and each drift on one line."""

from collections import Counter
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table

from pipelines.feed_check import Feed, share
from pipelines.feed_shape import SEGMENTS
from pipelines.screen import many
from schemas.event import Says
from schemas.feed_profile import OTHER, Drift

MOST = 40  # types that are shown; --json has all


def shown(feed: Feed, console: Console) -> None:
    """The whole report."""
    console.print(f"[bold]{many(feed.received, 'message')}[/]: {_counts(feed.outcomes)}")
    console.print(f"files: {_counts(feed.files)}")
    _types(feed, console)
    if feed.rejected:
        console.print(f"rejected: {_counts(feed.rejected)}")
    if feed.routable:
        found = feed.found_by.total()
        console.print(
            f"patient known in {_percent(share(found, feed.routable))} of {many(feed.routable, 'message')} that a "
            f"route could take: {_counts(feed.found_by)}"
        )
    _milestones(feed, console)
    if feed.consents:
        console.print(f"consents: {_counts({says: one.consents for says, one in feed.consents.items()})}")
    if permits := feed.consents.get(Says.PERMIT):
        console.print(
            f"permits that name a purpose: {_percent(share(permits.purpose, permits.consents))}, "
            f"a recipient: {_percent(share(permits.recipient, permits.consents))}"
        )
    if feed.notifications.statuses:
        told = feed.notifications
        console.print(
            f"subscription notifications: {told.statuses:,}, of them without the resource {told.fetch_needed:,}; "
            f"missed {told.missed:,}"
        )
    for name, counts in (("carried as", feed.carried), ("HL7 versions", feed.versions), ("charsets", feed.charsets)):
        if counts:
            console.print(f"{name}: {_counts(counts)}")
    console.print(f"senders: {feed.senders:,}")
    _names(feed, console)
    _drift(feed.drift, console)


def _types(feed: Feed, console: Console) -> None:
    totals: Counter[str] = Counter()
    for (kind, _), count in feed.types.items():
        totals[kind] += count
    columns = [name for name, _ in feed.outcomes.most_common()]
    table = _table("type", "messages", *columns)
    for kind, total in sorted(totals.items(), key=lambda one: (-one[1], one[0]))[:MOST]:
        cells = (feed.types[kind, name] for name in columns)
        table.add_row(kind, f"{total:,}", *(f"{cell:,}" if cell else "" for cell in cells))
    console.print(table)
    if len(totals) > MOST:
        console.print(f"and {many(len(totals) - MOST, 'more type')}: --json lists them")


def _milestones(feed: Feed, console: Console) -> None:
    if not feed.milestones:
        return
    table = _table("milestone", "stated", "cancelled", "time", "time of day", "visit number", "NPI")
    for kind, one in sorted(feed.milestones.items()):
        told = one.stated + one.cancelled
        shares = (share(part, told) for part in (one.time, one.time_of_day, one.visit))
        npi = _percent(share(one.npi, one.stated))
        table.add_row(kind, f"{one.stated:,}", f"{one.cancelled:,}", *map(_percent, shares), npi)
    console.print(table)


def _names(feed: Feed, console: Console) -> None:
    shapes = feed.profile.types.values()
    for title, names in (
        ("local segments", {name for shape in shapes for name in shape.segments} - SEGMENTS),
        ("extensions", {name for shape in shapes for name in shape.extensions}),
        ("code systems", {name for shape in shapes for name in shape.code_systems}),
    ):
        if names:
            listed = sorted(names - {OTHER}) + ["others, not shown"] * (OTHER in names)
            console.print(f"{title}: {', '.join(listed)}", markup=False)


def _drift(drift: Iterable[Drift] | None, console: Console) -> None:
    if drift is None:
        return
    lines = [
        f"drift: {one.type}: {one.what} {one.name} {one.change}: {_percent(one.before)} before, {_percent(one.now)} now"
        for one in drift
    ]
    for line in lines:
        console.print(line, markup=False)
    console.print(f"changes against the recorded profile: {len(lines):,}" if lines else "no drift")


def _table(first: str, *others: str) -> Table:
    table = Table(first, *others, box=None, header_style="dim", padding=(0, 1, 0, 0))
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    return table


def _counts(counts: Mapping[str, int]) -> str:
    """'9 MR, 1 untyped', the most first."""
    return ", ".join(f"{count:,} {name}" for name, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])))


def _percent(part: float | None) -> str:
    return "–" if part is None else f"{100 * part:.3g} %"
