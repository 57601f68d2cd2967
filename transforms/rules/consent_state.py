"""The state of consent as the CRM may learn it: what the permit that grounds a release allows, in one word.

DESIGN section 3: scopes, never yes or no. A recipe enumerates these words; one that it does not list becomes nothing.
"""

from schemas.event import Consent

WORDS = {  # purpose of use → what it lets be seen
    "PATSUPPORT": "support",
    "HCPVISIBLE": "hcp-visible",
    "HRESCH": "research-eligible",
    "CLINTRCH": "research-eligible",
}


def state(permit: Consent) -> str:
    """What a permit names, as one word; "" if it names nothing that the CRM has a word for.

    One scope alone is `support-only`, `hcp-visible-only` or `research-eligible`; several are joined in order of the
    alphabet: `hcp-visible+support`.
    """
    told = sorted({WORDS[purpose] for purpose in permit.purposes if purpose in WORDS})
    return f"{told[0]}-only" if told in (["support"], ["hcp-visible"]) else "+".join(told)
