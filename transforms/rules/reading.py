"""How a source is to be read: what the readers of every format need to know of the policy."""

from datetime import tzinfo
from typing import NamedTuple

from schemas.instant import zone
from schemas.policy import Policy
from transforms.rules import consent_forms, sensitivity
from transforms.rules.consent_forms import Profile
from transforms.rules.sensitivity import Sensitivity
from transforms.rules.tables import Tables, tables


class Reading(NamedTuple):
    """The profile of a source in the policy, and of the policy's lists what a reader looks up."""

    source: str  # the policy's name for the feed
    charset: str  # of HL7 messages that declare none
    zone: tzinfo  # of times that carry no offset
    identity_types: tuple[str, ...]  # HL7 table 0203 codes in order of preference; "" stands for untyped
    triggers: frozenset[str] | None = None  # HL7 triggers whose milestones are taken; None: all
    production: bool = False  # refuse test messages: MSH-11 other than P, FHIR labelled HTEST
    sensitivity: Sensitivity = Sensitivity()  # what marks an event as specially protected
    tables: Tables = Tables()  # programmes, studies, refills
    consents: Profile = Profile()  # how the source means its consents
    filtered: frozenset[str] = frozenset()  # "service", "location": what some route filters on, and is read for that


def of(policy: Policy) -> Reading:
    """The reading of the policy's source."""
    source = policy.source
    return Reading(
        source=source.name,
        charset=source.charset,
        zone=zone(source.zone),
        identity_types=policy.identity_types,
        triggers=None if source.triggers is None else frozenset(source.triggers),
        production=policy.environment == "production",
        sensitivity=sensitivity.compiled(policy),
        tables=tables(policy),
        consents=consent_forms.profile(policy),
        filtered=_filtered(policy),
    )


def _filtered(policy: Policy) -> frozenset[str]:
    """The values that some route filters on: only these are read."""
    every = [route.filters for route in policy.routes]
    by = {"service": any(one.services for one in every), "location": any(one.locations for one in every)}
    return frozenset(name for name, filtered in by.items() if filtered)
