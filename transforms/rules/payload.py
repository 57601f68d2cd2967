"""The payload: one line for the CRM, and the aliases under which it is known there.

Whatever leaves is named per destination, purpose and route, so that two of them can join nothing.
Sources: CloudEvents 1.0; DESIGN sections 2 (token, record) and 7 (crm/<route>/*.jsonl).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from schemas.contract import payload_type, retraction_type
from schemas.crossing import Crossing, Payload
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque, opaques
from schemas.policy import Policy
from schemas.route import Route
from transforms.rules.digests import Mac

SOURCE = "urn:limen:boundary"


class Lines(NamedTuple):
    """Payloads in the order of their releases. Lines sort by their ids: it is what they first differ in."""

    ids: list[str]
    correlations: list[str]
    lines: list[bytes]


class Desk:
    """Writes one route's payloads."""

    def __init__(self, route: Route, policy: Policy, keyset: Keyset) -> None:
        context = (route.destination.name, route.purpose, route.route)
        self._aliases = Mac(keyset.derive(KeyPurpose.ALIAS, *context, "event"))
        self._consents = Mac(keyset.derive(KeyPurpose.ALIAS, *context, "consent"))
        self._references: dict[tuple[bytes, ...], str] = {(): ""}
        self._revision = route.recipe_revision
        self._encoder = msgspec.json.Encoder()
        self._template = self._written(route, policy, payload_type(route)) + "\n"
        self._retraction = self._written(route, policy, retraction_type(route.route))[:-1] + ',"retracts":%d}\n'

    def lines(self, one: Crossing) -> Lines:
        """Ids, correlation ids and lines. An id is a function of (event, route, recipe, ordinal) alone."""
        entries = one.entries
        aliases = opaques([self._aliases.names(what) for what in entries.whats])
        correlations = [alias[:32] for alias in aliases]
        taken = "-retraction" if one.retracts else ""
        ends = [f"-{self._revision}-{its.ordinal}{taken}" for its in entries.alike]
        ids = [alias[32:] + ends[place] for alias, place in zip(aliases, entries.places, strict=True)]
        consents = ["" if taken else self._consent(its.consents) for its in entries.alike]  # it gives no cause
        days = [made.values["time"] for made in one.made]
        times = {day: self._encoder.encode(f"{day}T00:00:00Z").decode()[1:-1] for day in set(days)}  # in its quotes
        rows = zip(
            ids,
            [times[day] for day in days],
            one.subjects,
            one.records,
            one.seqs,
            [consents[place] for place in entries.places],
            correlations,
            [made.data for made in one.made],
            *([one.retracts] if taken else []),
            strict=True,
        )
        template = self._retraction if taken else self._template
        return Lines(ids, correlations, [(template % row).encode() for row in rows])

    def correlations(self, whats: Sequence[bytes]) -> list[str]:
        """One for each event and route, whatever becomes of it."""
        return opaques([self._aliases.name(what) for what in whats])

    def _consent(self, consents: tuple[bytes, ...]) -> str:
        """Stands for the consent version that grounds a release."""
        found = self._references.get(consents)
        if found is None:
            found = self._references[consents] = opaque(self._consents.name(consents[0]))
        return found

    def _written(self, route: Route, policy: Policy, type_: str) -> str:
        """A payload as JSON with a place for each value that differs: opaque words and a number, which need no escape,
        and two texts that are JSON already. A policy with NUL in its words has too many places: no line is written."""
        gap = "\0"
        payload = Payload(
            id=gap,
            source=SOURCE,
            type=type_,
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
        return text.replace("\\u0000", "%s").replace("\0", "%s").replace('"recordseq":0', '"recordseq":%d')
