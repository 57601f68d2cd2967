"""The shape of a message: which segments, fields, elements, extensions and code systems it has; never what is in them.

A name can be a patient's too: a sender is free to call a segment ZDOE. So a name is written down only if it is one of
the standard's (the closed lists below), or occurs in messages of at least `FEW` patients; all others are "other".
Messages that name no patient do not count. Sources: HL7 v2.8 appendix A (segments), FHIR R4 resource
definitions (elements of the resources that the routes read).
"""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.errors import MessageError
from schemas.feed_profile import CODE_SYSTEM, ELEMENT, EXTENSION, FACETS, OTHER, SEGMENT, VERSION, FeedProfile, Shape
from transforms.rules import fhir, hl7
from transforms.rules.fhir_parts import FhirIdentifier
from transforms.rules.identity import SEPARATOR
from transforms.rules.vocabulary import RESOURCE_TYPES, hl7_type

FEW = 5  # patients
MOST = 10_000  # names that are watched; more are "other" at once, so that memory stays bounded
FIELDS = 60  # of a segment; the standard's longest has 52

SEGMENTS = frozenset(
    """ABS ACC ADD ADJ AFF AIG AIL AIP AIS AL1 APR ARQ ARV AUT BHS BLC BLG BPO BPX BTS BTX BUI CDM CDO CER CM0 CM1 CM2
    CNS CON CSP CSR CSS CTD CTI CTR DB1 DEV DG1 DMI DON DRG DSC DSP DST ECD ECR EDU EQP EQU ERR EVN FAC FHS FT1 FTS GOL
    GP1 GP2 GT1 IAM IAR IIM ILT IN1 IN2 IN3 INV IPC IPR ISD ITM IVC IVT LAN LCC LCH LDP LOC LRL MCP MFA MFE MFI MRG MSA
    MSH NCK NDS NK1 NPU NSC NST NTE OBR OBX ODS ODT OM1 OM2 OM3 OM4 OM5 OM6 OM7 OMC ORC ORG OVR PAC PCE PCR PD1 PDA PDC
    PEO PES PID PKG PM1 PMT PR1 PRA PRB PRC PRD PRT PSG PSH PSL PSS PTH PV1 PV2 PYE QAK QID QPD QRD QRF QRI RCP RDF RDT
    REL RF1 RFI RGS RMI ROL RQ1 RQD RXA RXC RXD RXE RXG RXO RXR RXV SAC SCD SCH SCP SDD SFT SGH SGT SHP SID SLT SPM STF
    STZ TCC TCD TQ1 TQ2 TXA UAC UB1 UB2 URD URS VAR VND""".split()
)
ELEMENTS = frozenset(
    """resourceType id meta implicitRules language text contained extension modifierExtension identifier status subject
    patient encounter code category note basedOn partOf performer recorder asserter requester reason reasonCode
    reasonReference supportingInformation insurance authoredOn priority intent
    active name telecom gender birthDate deceasedBoolean deceasedDateTime address maritalStatus multipleBirthBoolean
    multipleBirthInteger photo contact communication generalPractitioner managingOrganization link
    statusHistory class classHistory type serviceType episodeOfCare participant appointment period length diagnosis
    account hospitalization location serviceProvider referralRequest careManager team
    cancelationReason serviceCategory specialty appointmentType description start end minutesDuration slot created
    comment patientInstruction requestedPeriod actor participantType participantStatus
    scope dateTime organization sourceAttachment sourceReference policy policyRule verification provision
    statusReason medicationCodeableConcept medicationReference doNotPerform reportedBoolean reportedReference
    performerType instantiatesCanonical instantiatesUri groupIdentifier courseOfTherapyType dosageInstruction
    dispenseRequest substitution priorPrescription detectedIssue eventHistory statusReasonCodeableConcept
    statusReasonReference context authorizingPrescription quantity daysSupply whenPrepared whenHandedOver destination
    receiver
    clinicalStatus verificationStatus severity bodySite onsetDateTime onsetAge onsetPeriod onsetRange onsetString
    abatementDateTime abatementAge abatementPeriod abatementRange abatementString recordedDate stage evidence
    replaces requisition orderDetail quantityQuantity quantityRatio quantityRange occurrenceDateTime occurrencePeriod
    occurrenceTiming asNeededBoolean asNeededCodeableConcept locationCode locationReference specimen relevantHistory
    study individual assignedArm actualArm consent
    title protocol primaryPurposeType phase focus condition relatedArtifact keyword enrollment sponsor
    principalInvestigator site reasonStopped arm objective""".split()
)
FILLED = ("MSH", "EVN", "PID", "MRG", "PV1", "PV2", "DG1", "SCH", "CON", "ARV")  # the segments whose fields are watched

_KNOWN = {"segments": SEGMENTS, "elements": ELEMENTS}
_NAMES = {name: [f"{name}-{n}" for n in range(FIELDS + 1)] for name in FILLED}
_PATTERNS = {
    facet: re.compile(pattern)
    for facet, pattern in (
        ("segments", SEGMENT),
        ("elements", ELEMENT),
        ("extensions", EXTENSION),
        ("code_systems", CODE_SYSTEM),
    )
}
_EXTENDS = ("extension", "modifierExtension")
_any = msgspec.json.Decoder()


class Parts(NamedTuple):
    """One message taken apart. `identifiers` are (type, value) of its patient, `sender` who says to have sent it."""

    type: str
    names: dict[str, set[str]]  # by facet
    identifiers: list[tuple[str, str]]
    reference: str
    sender: str
    enveloped: bool
    version: str = ""
    charset: str = ""

    def __repr__(self) -> str:
        return "Parts()"

    def found_by(self, patient: str, types: Sequence[str]) -> str:
        """By what a patient key was found: an identifier type of the policy's, `untyped`, `reference`, or `resolved`
        (by a Patient in the same Bundle or resource, or a conditional reference)."""
        value = patient.partition(SEPARATOR)[2]
        stated = {kind for kind, given in self.identifiers if given == value}
        for kind in types:
            if kind in stated:
                return kind or "untyped"
        return "reference" if value.startswith(("Patient/", "urn:")) else "resolved"

    @property
    def person(self) -> str:
        """Whom the message is about, as well as it can be told without a policy; "" if it does not say."""
        return self.identifiers[0][1] if self.identifiers else self.reference


def apart(body: bytes, charset: str, *, in_hl7: bool) -> Parts | None:
    """Take a message apart that was read or rejected; None if its bytes have no shape. `in_hl7`: no JSON around it."""
    if in_hl7:
        return _hl7(body, charset)
    try:
        tree = _any.decode(body)
        if not isinstance(tree, dict):
            return None
        if "resourceType" in tree or "specversion" not in tree:
            return _fhir(tree, "", enveloped=False)
        source, data = tree.get("source"), tree.get("data")
        sender = source if isinstance(source, str) else ""
        if data is None and isinstance(tree.get("data_base64"), str):
            data = base64.b64decode(tree["data_base64"])
            data = data if data.lstrip().startswith(b"MSH") else _any.decode(data)
        if isinstance(data, str | bytes):
            found = _hl7(data.encode("ascii", "replace") if isinstance(data, str) else data, charset)
            return found._replace(sender=sender, enveloped=True) if found else None
        return _fhir(data, sender, enveloped=True) if isinstance(data, dict) else None
    except (ValueError, RecursionError):
        return None


def _hl7(body: bytes, default_charset: str) -> Parts | None:
    try:
        message = hl7.read(body, default_charset)
    except MessageError:
        return None
    header, person, merged = message.first("MSH"), message.first("PID"), message.first("MRG")
    if header is None:
        return None
    segments: set[str] = set()
    fields: set[str] = set()
    separator = header.field(1)
    text = body[body.index(b"MSH") :].decode(message.charset).replace("\n", "\r")
    for line in text.split("\r"):
        name = line[:3]
        if line[3:4] == separator and name not in segments:
            segments.add(name)
            if names := _NAMES.get(name):
                values = line.split(separator)[:FIELDS]
                first = name == "MSH"  # MSH-1 is the separator itself
                fields.update([names[n + first] for n, value in enumerate(values) if value and value != hl7.NULL])
                fields.discard(names[first])  # its own name is no field
    recorded = message.first("EVN")
    trigger = header.value(9, 2) or (recorded.value(1) if recorded else "")
    told = (person.repeats(3) if person else []) + (merged.repeats(1) if merged else [])
    identifiers = [(one.value(5), one.value(1).strip()) for one in told]
    sender = f"{header.field(3)}{separator}{header.field(4)}"
    return Parts(
        hl7_type(header.value(9, 1), trigger), {"segments": segments, "fields": fields},
        identifiers, "", sender, False, header.value(12), header.value(18),
    )  # fmt: skip


def _fhir(tree: dict[str, Any], sender: str, *, enveloped: bool) -> Parts | None:
    kind = tree.get("resourceType")
    if not isinstance(kind, str) or kind not in RESOURCE_TYPES:
        return None
    extensions: set[str] = set()
    systems: set[str] = set()
    nodes: list[dict[str, Any]] = [tree]
    for node in nodes:  # it grows as it is walked; JSON has no subclasses, and `isinstance` is slower
        if "system" in node and "code" in node and type(node["system"]) is str:
            systems.add(node["system"])
        for name, inner in node.items():
            if type(inner) is dict:
                nodes.append(inner)
            elif type(inner) is list:
                nodes += [one for one in inner if type(one) is dict]
                if name in _EXTENDS:
                    urls = [one.get("url") for one in inner if type(one) is dict]
                    # a url without a scheme is a part of the extension around it
                    extensions.update(url for url in urls if type(url) is str and ":" in url)
    elements = {name.removeprefix("_") for name in tree}  # _birthDate extends birthDate
    names = {"elements": elements, "extensions": extensions, "code_systems": systems}
    identifiers, reference = _subject(kind, tree)
    return Parts(kind, names, identifiers, reference, sender, enveloped)


def _subject(kind: str, tree: dict[str, Any]) -> tuple[list[tuple[str, str]], str]:
    """The identifiers of the patient, as far as the resource itself says them, and its reference."""
    people: list[Any] = [tree.get("subject"), tree.get("patient")]
    if isinstance(participants := tree.get("participant"), list) and kind == "Appointment":
        people += [one.get("actor") for one in participants if isinstance(one, dict)]
    stated: list[Any] = [one["identifier"] for one in people if isinstance(one, dict) and "identifier" in one]
    reference = next((one["reference"] for one in people if isinstance(one, dict) and one.get("reference")), "")
    if kind == "Patient":
        stated, reference = tree.get("identifier") or [], tree.get("id")
    try:
        identifiers = fhir.identifiers(msgspec.convert(stated, list[FhirIdentifier]))
    except msgspec.ValidationError:
        identifiers = []
    return [(one.type, one.value) for one in identifiers], reference if isinstance(reference, str) else ""


class Shapes:
    """The shapes of all messages of a feed, summed up by type, with the names that may be written down.

    What stands in a recorded profile may: otherwise a short feed would seem to miss it.
    """

    def __init__(self, recorded: FeedProfile | None = None) -> None:
        self._messages: Counter[str] = Counter()
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._room = MOST
        self._patients: dict[tuple[str, str], set[int]] = {}  # of a name that is not public yet
        self._public = {facet: set(_KNOWN.get(facet, ())) for facet in _PATTERNS}
        for shape in recorded.types.values() if recorded else ():
            for facet, public in self._public.items():
                public.update(getattr(shape, facet))

    def add(self, parts: Parts, person: str) -> None:
        """`person`: the identifier or reference of the message's patient, "" if it names none."""
        self._messages[parts.type] += 1
        for facet, names in parts.names.items():
            counter = self._counts.get((parts.type, facet))
            if counter is None:
                counter = self._counts[parts.type, facet] = Counter()
            if facet in self._public and (unknown := names - self._public[facet]):
                counter.update((names - unknown) | {self._watched(facet, name, person) for name in unknown})
            else:
                counter.update(names)

    def _watched(self, facet: str, name: str, person: str) -> str:
        """The name, once it is known whom it was seen with; "other" if it could never be written down."""
        patients = self._patients.get((facet, name))
        if patients is None:
            if not self._room or not _PATTERNS[facet].fullmatch(name):
                return OTHER
            self._room -= 1
            patients = self._patients[facet, name] = set()
        if person:
            patients.add(hash(person))
        if len(patients) >= FEW:
            self._public[facet].add(name)
            del self._patients[facet, name]
        return name

    def profile(self) -> FeedProfile:
        """What was seen so far."""
        types = {
            kind: Shape(messages, **{facet: self._shares(kind, facet, messages) for facet in FACETS})
            for kind, messages in self._messages.items()
        }
        return FeedProfile(VERSION, self._messages.total(), types)

    def _shares(self, kind: str, facet: str, messages: int) -> dict[str, float]:
        kept: Counter[str] = Counter()
        for name, count in self._counts.get((kind, facet), Counter()).items():
            public = facet not in self._public or name in self._public[facet]
            kept[name if public else OTHER] += count
        return {name: min(round(count / messages, 2), 1.0) for name, count in kept.items()}
