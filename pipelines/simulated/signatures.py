"""How the simulated hospital's systems write what patients sign: FHIR R4 Consents, and HL7 v2 CON segments.

Pure functions of `chart`'s values.
"""

from datetime import timedelta

from pipelines.simulated.chart import Consent, Patient
from pipelines.simulated.feeds import TERMINOLOGY, Json, coded, dtm, hl7, instant, msh, pid, subject
from pipelines.simulated.personas import BOTH

ACT_REASON = f"{TERMINOLOGY}/v3-ActReason"
FORMS = "urn:limen:form"


def consent(p: Patient, c: Consent) -> Json:
    """FHIR R4 Consent whose root provision is the rule: purpose, recipient (PRCP), action, period."""
    said = c.said
    head: Json = {
        "resourceType": "Consent",
        "id": c.identifier,
        "meta": {"versionId": str(said.version), "lastUpdated": instant(c.given + timedelta(minutes=3))},
        "status": said.status,
        "patient": subject(p),
        "dateTime": instant(c.given),
    }
    if said.says == "illegible":
        return head | {"provision": "see the paper form"}
    scope, usual = coded(f"{TERMINOLOGY}/consentscope", said.scope), coded("http://loinc.org", "59284-0")
    if said.form:  # the document names the form, and none of its criteria
        named = coded(FORMS, said.form)
        own: Json = {"category": [usual], "policyRule": named} if said.by == "policyRule" else {"category": [named]}
        return head | {"scope": scope, **own}
    if said.guardian:
        head |= {"performer": [{"type": "RelatedPerson", "display": f"Robin {p.family}"}]}
    who = f"Organization/{said.recipient}", {"system": "urn:limen:organization", "value": said.recipient}
    role = coded(f"{TERMINOLOGY}/v3-ParticipationType", "PRCP")
    purposes = [{"system": "urn:limen:purpose" if code in BOTH else ACT_REASON, "code": code} for code in said.purposes]
    excepted = [one for one in purposes if one["code"] in said.excepted]
    rule = {
        "actor": [{"role": role, "reference": {"reference": who[0], "identifier": who[1]}}] if said.recipient else [],
        "action": [coded(f"{TERMINOLOGY}/consentaction", "disclose")],
        "purpose": purposes,
        "securityLabel": [{"system": f"{TERMINOLOGY}/v3-ActCode", "code": code} for code in said.labels],
    }
    rule = {name: criterion for name, criterion in rule.items() if criterion}
    period = {"start": instant(c.begins), **({"end": instant(c.until)} if said.says == "permit" else {})}
    return head | {
        "scope": scope,
        "category": [usual],
        "policyRule": coded(f"{TERMINOLOGY}/consentpolicycodes", "hipaa-auth"),
        "provision": {"type": said.says, "period": period, **rule, **_exception(rule, excepted)},
    }


def _exception(rule: Json, purposes: list[Json]) -> Json:
    return {"provision": [{"type": "deny", **rule, "purpose": purposes}]} if purposes else {}


def signed(p: Patient, c: Consent, control: str, trigger: str) -> bytes:
    """A form that was signed or refused, as a CON segment: CON-2 the form, -11 its state, -13 when it was decided, -25
    who decided (table 0063)."""
    fields = {1: "1", 2: f"{c.said.form}^{c.said.form}^LIMEN", 4: c.identifier, 13: dtm(c.given), 14: dtm(c.begins)}
    fields |= {11: "A" if c.said.says == "permit" else "R", 25: "PAR" if c.said.guardian else "SEL"}
    con = "CON|" + "|".join(fields.get(place, "") for place in range(1, 26))
    structure = {"A31": "ADT_A05", "A60": "ADT_A60"}[trigger]
    return hl7(msh(f"ADT^{trigger}", structure, control, c.given), f"EVN||{dtm(c.given)}", pid(p), "PV1|1|N", con)
