"""The payload: one line for the CRM, and the aliases under which it is known there.

Whatever leaves is named per destination, purpose and route, so that two of them can join nothing.
Sources: CloudEvents 1.0; DESIGN sections 2 (token, record) and 7 (crm/<route>/*.jsonl).
"""

import msgspec

from schemas.crossing import Crossing, Payload, Retraction
from schemas.keyset import KeyPurpose, Keyset
from schemas.opaque import opaque
from schemas.policy import Policy, Route
from transforms.rules.digests import Mac

SOURCE = "urn:limen:boundary"


class Desk:
    """Writes one route's payloads."""

    def __init__(self, route: Route, policy: Policy, keyset: Keyset) -> None:
        context = (route.destination.name, route.purpose, route.route)
        self._aliases = Mac(keyset.derive(KeyPurpose.ALIAS, *context, "event"))
        self._consents = Mac(keyset.derive(KeyPurpose.ALIAS, *context, "consent"))
        self._references: dict[tuple[bytes, ...], str] = {(): ""}
        self._route, self._policy = route, policy
        self._type = f"limen.{route.route}.v1"
        self._level = policy.level(route).label
        self._recipe = route.recipe_name
        self._encoder = msgspec.json.Encoder()

    def line(self, one: Crossing) -> tuple[str, str, bytes]:
        """(id, correlation id, the line). The id is a function of (event, route, recipe, ordinal) alone."""
        entry, route = one.entry, self._route
        names = self._aliases.names(entry.what)
        correlation = opaque(names[:16])
        identifier = f"{opaque(names[16:])}-{route.recipe_revision}-{entry.ordinal}"
        if entry.retracts:
            identifier += "-retraction"
        attributes = (
            identifier,
            SOURCE,
            self._type,
            f"{one.made.values['time']}T00:00:00Z",
            one.subject,
            one.record,
            entry.seq,
            route.purpose,
            route.destination.name,
            self._consent(entry.consents) if not entry.retracts else "",
            self._level,
            self._policy.name,
            self._recipe,
            correlation,
            one.made.data,
        )
        payload = Retraction(*attributes, retracts=entry.retracts) if entry.retracts else Payload(*attributes)
        return identifier, correlation, self._encoder.encode(payload) + b"\n"

    def correlation(self, what: bytes) -> str:
        """One for each event and route, whatever becomes of it."""
        return opaque(self._aliases.name(what))

    def _consent(self, consents: tuple[bytes, ...]) -> str:
        """Stands for the consent version that grounds a release."""
        found = self._references.get(consents)
        if found is None:
            found = self._references[consents] = opaque(self._consents.name(consents[0]))
        return found
