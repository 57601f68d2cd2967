"""How a feed is to be read, as people write it: its charset and zone, by which identifiers its patients are known, how
it means its consents. The `source` of policy.yaml."""

from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints, field_validator

from schemas.charset import codec
from schemas.instant import zone
from schemas.recipe import Name, Strict

# The rows of `transforms.rules.hl7_triggers`: ADT A01-A18, A21-A55, A60-A62; SIU S12-S17, S26
TriggerName = Annotated[
    str,
    StringConstraints(pattern=r"^(ADT\^A(0[1-9]|1[0-8]|2[1-9]|[34][0-9]|5[0-5]|6[0-2])|SIU\^S(1[2-7]|26))$"),
]


def _never_social_security(types: tuple[str, ...]) -> tuple[str, ...]:
    if not types or {"SS", "SSN", "SB"} & set(types):
        raise ValueError("at least one type, and never a social security number")
    return types


# Identifier types of HL7 table 0203 in order of preference; "" stands for untyped.
IdentifierTypes = Annotated[tuple[str, ...], AfterValidator(_never_social_security)]


class IdentityTerms(Strict):
    """By which identifiers a patient is known."""

    types: IdentifierTypes


class Source(Strict):
    """How a feed is to be read: its profile.

    `charset` is that of HL7 messages which declare none (table 0211), `zone` that of times without an offset.
    `identity_types` stands in for the policy's where this source types its identifiers in another way. `triggers`: the
    HL7 trigger events whose milestones and demographics are taken, None for all; what takes a milestone back or changes
    an identity is always taken, since it only ever tightens. `consent_profile` says how the source means a Consent's
    root provision; never a guess. `consent_verified`: a permit counts only if Consent.verification confirms it.
    `consent_document`: a permit counts only if it names the document that was signed, 45 CFR 164.508(b)(6), (c)(1)(vi).
    `unread_consent`: after a consent whose patient cannot be read a run warns, or holds: it publishes nothing.
    """

    name: Name
    charset: str
    zone: str
    identity_types: IdentifierTypes | None = None
    triggers: tuple[TriggerName, ...] | None = None
    consent_profile: Literal["root-is-rule", "root-is-base-deny", "root-is-context"]
    consent_verified: bool = False
    consent_document: bool = False
    unread_consent: Literal["alarm", "hold"] = "alarm"

    @field_validator("charset")
    @classmethod
    def _known_charset(cls, name: str) -> str:
        if codec(name) is None:
            raise ValueError("unknown character set; name one of HL7 table 0211")
        return name

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        zone(name)
        return name
