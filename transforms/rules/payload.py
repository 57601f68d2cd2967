"""The payload: one line for the CRM, and the aliases under which it is known there.

Event, record and consent are named per destination, purpose and route, the patient per destination and purpose: two of
them can join nothing.
Sources: CloudEvents 1.0; DESIGN sections 2 (token, record) and 7 (crm/<route>/*.jsonl).
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import astuple

from schemas.contract import payload_type, retraction_type
from schemas.crossing import Crossing, Payload, Retraction
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
        self._type, self._retraction = payload_type(route), retraction_type(route.route)
        level = policy.level(route).label
        self._words = (route.purpose, route.destination.name, level, policy.name, route.recipe_name)
        self._encode = msgspec.json.Encoder().encode

    def lines(self, one: Crossing) -> Lines:
        """Ids, correlation ids and lines. An id is a function of (event, route, recipe, ordinal) alone."""
        entries = one.entries
        aliases = opaques([self._aliases.names(what) for what in entries.whats])
        correlations = [alias[:32] for alias in aliases]
        taken = "-retraction" if one.retracts else ""
        ends = [f"-{self._revision}-{its.ordinal}{taken}" for its in entries.alike]
        ids = [alias[32:] + ends[place] for alias, place in zip(aliases, entries.places, strict=True)]
        consents = ["" if taken else self._consent(its.consents) for its in entries.alike]  # it gives no cause
        purpose, destination, level, policy, recipe = self._words
        type_ = self._retraction if taken else self._type
        lines = []
        for place, made in enumerate(one.made):
            line = Payload(
                ids[place], SOURCE, type_, f"{made.values['time']}T00:00:00Z", one.subjects[place], one.records[place],
                one.seqs[place], purpose, destination, consents[entries.places[place]], level, policy, recipe,
                correlations[place], msgspec.Raw(made.data),
            )  # fmt: skip
            if taken:
                line = Retraction(*astuple(line), retracts=one.retracts[place])
            lines.append(self._encode(line) + b"\n")
        return Lines(ids, correlations, lines)

    def correlations(self, whats: Sequence[bytes]) -> list[str]:
        """One for each event and route, whatever becomes of it."""
        return opaques([self._aliases.name(what) for what in whats])

    def _consent(self, consents: tuple[bytes, ...]) -> str:
        """Stands for the consent version that grounds a release."""
        found = self._references.get(consents)
        if found is None:
            found = self._references[consents] = opaque(self._consents.name(consents[0]))
        return found
