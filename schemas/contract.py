"""Payload contracts: what a CRM may rely on, route by route, as JSON Schema (draft 2020-12).

A contract is made of the type of a payload and of the route's recipe, so it says no more and no less than what the job
writes. It is named by the route's `recipe_revision` and, once published, never changes: whatever would change it (the
recipe, the destination, the level, the envelope) wants a new revision, and with that a new file beside the old one.
Closed everywhere: a what-if payload, or one of a shape that is not promised, is of no contract.
A retraction says nothing that a recipe makes, so one contract serves the retractions of all routes and policies.
A line's `type` says of which contract it is: another shape has another type (CloudEvents 1.0 primer, versioning).
Sources: CloudEvents 1.0 (attributes; Integer is 32 bits), 45 CFR 162.406 (NPI), DESIGN section 7 (crm/<route>/*.jsonl).
"""

from collections.abc import Collection
from itertools import combinations
from typing import Any, get_args

import msgspec

from schemas.crossing import Payload, Retraction
from schemas.opaque import ALPHABET
from schemas.policy import Policy
from schemas.recipe import Action, Level, Row
from schemas.route import Route

Schema = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

RETRACTION_REVISION = 2  # a step of it, and a new file beside the old one, is what a changed Retraction wants
AFTER_REVOCATION: tuple[str, ...] = get_args(Route.model_fields["after_revocation"].annotation)

_OPAQUE = f"[{ALPHABET.decode()}]{{32}}"  # 16 bytes
_DATE = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
_FORMS = {"npi": "[12][0-9]{9}", "protocol": "[A-Z][A-Z0-9-]{1,31}"}  # of what passes as it is
_NAME = "[a-z][a-z0-9-]{0,39}"


def file_name(route: Route) -> str:
    """Under which a contract is published."""
    return f"{route.route}.v{route.recipe_revision}.schema.json"


def payload_type(route: Route) -> str:
    """The CloudEvents `type` of a route's payloads: that of the contract."""
    return f"limen.{route.route}.v{route.recipe_revision}"


def retraction_type(route: str) -> str:
    """The CloudEvents `type` of a route's retractions, which say the same on all routes."""
    return f"limen.{route}.retraction.v{RETRACTION_REVISION}"


def published(route: Route, policy: Policy) -> bytes:
    """The contract as it is published: the same bytes for the same promise."""
    return msgspec.json.format(msgspec.json.encode(contract(route, policy)), indent=2) + b"\n"


def documents(policy: Policy) -> dict[str, bytes]:
    """All contracts that a policy promises, by file name: of each route that delivers payloads, and of retractions."""
    routes = {file_name(one): published(one, policy) for one in policy.routes if one.delivers == "payloads"}
    name = f"retraction.v{RETRACTION_REVISION}.schema.json"
    return routes | {name: msgspec.json.format(msgspec.json.encode(retraction()), indent=2) + b"\n"}


def contract(route: Route, policy: Policy) -> Schema:
    """The JSON Schema of one payload of a route that delivers payloads.

    Raises ValueError if a payload has an attribute of which this file says nothing.
    """
    declared = msgspec.json.schema(Payload)["$defs"]["Payload"]["properties"]
    said = _attributes(route, policy)
    if declared.keys() != said.keys():
        raise ValueError("a payload's attributes and those of its contract differ")
    return {
        "$schema": DRAFT,
        "$id": f"urn:limen:contract:{route.route}:{route.recipe_revision}",
        "title": f"{route.route}, revision {route.recipe_revision}",
        "description": "One line of a payload file: a CloudEvents 1.0 envelope in JSON.",
        **_closed({name: _typed(declared[name]) | said[name] for name in declared}, required=list(declared)),
    }


def retraction() -> Schema:
    """The JSON Schema of one retraction, of whatever route. Raises ValueError as `contract`."""
    declared = msgspec.json.schema(Retraction)["$defs"]["Retraction"]["properties"]
    rules = {"after_revocation": {"type": "string", "enum": [*AFTER_REVOCATION]}}
    said: dict[str, Schema] = {
        "id": _matching(f"{_OPAQUE}-[1-9][0-9]*-[1-9][0-9]*-retraction"),
        "source": {"const": "urn:limen:boundary"},
        "type": _matching(retraction_type(_NAME).replace(".", r"\.")),
        "time": _matching(f"{_DATE}T00:00:00Z") | {"format": "date-time"},
        "subject": _matching(_OPAQUE),
        "record": _matching(_OPAQUE),
        "recordseq": {"minimum": 2, "maximum": 2**31 - 1},
        "purpose": _matching("[A-Z][A-Z0-9]{1,19}"),
        "dest": _matching(_NAME),
        "consentref": {"const": ""},  # a cause would say more than the release did
        "deidlevel": {"enum": [level.label for level in Level if level not in (Level.IDENTIFIED, Level.AGGREGATE)]},
        "policyrev": _matching(f"{_NAME}@[1-9][0-9]*"),
        "recipe": _matching(f"{_NAME}@[1-9][0-9]*"),
        "correlationid": _matching(_OPAQUE),
        "data": _closed(rules, required=[*rules]),
        "specversion": {"const": "1.0"},
        "datacontenttype": {"const": "application/json"},
        "retracts": {"minimum": 1, "maximum": 2**31 - 2},
    }
    if declared.keys() != said.keys():
        raise ValueError("a retraction's attributes and those of its contract differ")
    return {
        "$schema": DRAFT,
        "$id": f"urn:limen:contract:retraction:{RETRACTION_REVISION}",
        "title": f"retraction, revision {RETRACTION_REVISION}",
        "description": "One line of a payload file that takes a record back: a CloudEvents 1.0 envelope in JSON. All "
        "payloads of `record` up to the recordseq that `retracts` names, the one before this line's, are withdrawn.",
        **_closed({name: _typed(declared[name]) | said[name] for name in declared}, required=list(declared)),
    }


def _typed(declared: Schema) -> Schema:
    return {"type": declared["type"]} if "type" in declared else {}


def _attributes(route: Route, policy: Policy) -> dict[str, Schema]:
    """What is true of each attribute of the envelope, besides its type."""
    return {
        "id": _matching(f"{_OPAQUE}-{route.recipe_revision}-[1-9][0-9]*"),
        "source": {"const": "urn:limen:boundary"},
        "type": {"const": payload_type(route)},
        "time": _matching(f"{_DATE}T00:00:00Z") | {"format": "date-time"},
        "subject": _matching(_OPAQUE),
        "record": _matching(_OPAQUE),
        "recordseq": {"minimum": 1, "maximum": 2**31 - 1},
        "purpose": {"const": route.purpose},
        "dest": {"const": route.destination.name},
        "consentref": _matching(_OPAQUE if route.basis == "authorization" else f"({_OPAQUE})?"),
        "deidlevel": {"const": policy.level(route).label},
        "policyrev": _matching(f"{_NAME}@[1-9][0-9]*"),
        "recipe": {"const": route.recipe_name},
        "correlationid": _matching(_OPAQUE),
        "data": _data(route, policy),
        "specversion": {"const": "1.0"},
        "datacontenttype": {"const": "application/json"},
    }


def _data(route: Route, policy: Policy) -> Schema:
    """The recipe's outbound fields but the subject and the time, which are attributes of the envelope."""
    rows = [row for row in route.recipe if row.action not in (Action.DROP, Action.TOKEN) and row.to != "time"]
    fields = {row.to: {"type": "string", **_field(row, route, policy)} for row in rows}
    return _closed(fields, required=[row.to for row in rows if _always(row, route, policy)])


def _field(row: Row, route: Route, policy: Policy) -> Schema:
    """What one row of a recipe can write."""
    if row.action is Action.ENUMERATE:
        return {"enum": sorted({word for word in row.values.values() if word})}
    if row.action is Action.YEAR:
        return _matching("[0-9]{4}")
    if row.field == "time":
        return _matching(_DATE) | {"format": "date"}
    if row.field in _FORMS:
        return _matching(_FORMS[row.field])
    words = _inbound(row.field, route, policy)
    return {"enum": sorted(words)} if words else {"minLength": 1}


def _always(row: Row, route: Route, policy: Policy) -> bool:
    """Whether every payload has this field. One that the source may leave out, or that the recipe may leave without a
    word, can be absent."""
    words = _inbound(row.field, route, policy)
    if row.action is Action.ENUMERATE:
        return bool(words) and all(row.values.get(word) for word in words)
    return row.field == "time" or bool(words)


def _inbound(field: str, route: Route, policy: Policy) -> Collection[str]:
    """All words that an inbound field can be, if it is one that no release is without."""
    if field == "consent" and route.basis == "authorization":
        # the grounding permit names the route's purpose, and any of the others
        others = [code for code in policy.disclosed if code != route.purpose]
        return {
            policy.scope((route.purpose, *some)) for n in range(len(others) + 1) for some in combinations(others, n)
        }
    return route.kinds if field == "kind" else ()


def _closed(properties: dict[str, Schema], required: list[str]) -> Schema:
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _matching(pattern: str) -> Schema:
    return {"pattern": f"^{pattern}$"}
