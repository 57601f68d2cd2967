"""The payload: one line for the CRM, and the aliases under which it is known there.

Whatever leaves is named per destination, purpose and route, so that two of them can join nothing.
Sources: CloudEvents 1.0; DESIGN sections 2 (token, record) and 7 (crm/<route>/*.jsonl).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.crossing import Crossing, Payload
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque, opaques
from schemas.policy import Policy, Route
from transforms.rules.digests import Mac

SOURCE = "urn:limen:boundary"


class Lines(NamedTuple):
    """Payloads in the order of their releases, but for `content`: the lines sorted by id."""

    ids: list[str]
    correlations: list[str]
    content: bytes


class Desk:
    """Writes one route's payloads."""

    def __init__(self, route: Route, policy: Policy, keyset: Keyset) -> None:
        context = (route.destination.name, route.purpose, route.route)
        self._aliases = Mac(keyset.derive(KeyPurpose.ALIAS, *context, "event"))
        self._consents = Mac(keyset.derive(KeyPurpose.ALIAS, *context, "consent"))
        self._references: dict[tuple[bytes, ...], str] = {(): ""}
        self._revision = route.recipe_revision
        self._encoder = msgspec.json.Encoder()
        self._template = self._written(route, policy)

    def lines(self, one: Crossing) -> Lines:
        """Ids, correlation ids and lines. An id is a function of (event, route, recipe, ordinal) alone."""
        entries = one.entries
        aliases = opaques([self._aliases.names(what) for what in entries.whats])
        correlations = [alias[:32] for alias in aliases]
        ends = [f"-{self._revision}-{its.ordinal}" for its in entries.alike]
        ids = [alias[32:] + ends[place] for alias, place in zip(aliases, entries.places, strict=True)]
        ordinals = [its.ordinal for its in entries.alike]
        consents = [self._consent(its.consents) for its in entries.alike]
        days = [made.values["time"] for made in one.made]
        times = {day: self._encoder.encode(f"{day}T00:00:00Z").decode()[1:-1] for day in set(days)}  # in its quotes
        rows = zip(
            ids,
            [times[day] for day in days],
            one.subjects,
            one.records,
            [ordinals[place] for place in entries.places],
            [consents[place] for place in entries.places],
            correlations,
            [made.data for made in one.made],
            strict=True,
        )
        template = self._template
        lines = [(template % row).encode() for row in rows]
        lines.sort()  # by id: it is what lines first differ in
        return Lines(ids, correlations, b"".join(lines))

    def correlations(self, whats: Sequence[bytes]) -> list[str]:
        """One for each event and route, whatever becomes of it."""
        return opaques([self._aliases.name(what) for what in whats])

    def _consent(self, consents: tuple[bytes, ...]) -> str:
        """Stands for the consent version that grounds a release."""
        found = self._references.get(consents)
        if found is None:
            found = self._references[consents] = opaque(self._consents.name(consents[0]))
        return found

    def _written(self, route: Route, policy: Policy) -> str:
        """A payload as JSON with a place for each value that differs: opaque words and a number, which need no escape,
        and two texts that are JSON already. A policy with NUL in its words has too many places: no line is written."""
        gap = "\0"
        payload = Payload(
            id=gap,
            source=SOURCE,
            type=f"limen.{route.route}.v1",
            time=gap,
            subject=gap,
            record=gap,
            recordseq=0,
            purpose=route.purpose,
            dest=route.destination.name,
            consentref=gap,
            deidlevel=policy.level(route).label,
            policyrev=policy.name,
            recipe=route.recipe_name,
            correlationid=gap,
            data=msgspec.Raw(b"\0"),
        )
        text = self._encoder.encode(payload).decode().replace("%", "%%")
        return text.replace("\\u0000", "%s").replace("\0", "%s").replace('"recordseq":0', '"recordseq":%d') + "\n"
