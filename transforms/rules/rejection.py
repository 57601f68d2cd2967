"""Messages that are rejected: in what cannot be read somebody may have refused.

Whatever keeps a text from being read, one that holds a consent raises the alarm of a consent of nobody. A consent is
told by how it is written (`resourceType`, an XML element, an HL7 CON segment), never by prose that speaks of one.
Sources: FHIR R4 2.6.2 (JSON), 2.6.1 (XML); HL7 v2.8 chapter 9, CON; CloudEvents 1.0 JSON format, `data_base64`.
"""

import re
from base64 import b64decode

from schemas.outcome import Reason
from transforms.rules.envelope_parts import Counted

# Undone before the search: UTF-16 and UTF-32 of plain letters, and the escapes of a text inside of JSON.
_ESCAPED = re.compile(rb"\\u00([0-7][0-9A-Fa-f])")
_ESCAPES = ((b"\\r", b"\r"), (b"\\n", b"\n"))
_RESOURCE = re.compile(rb"resourcetype\W*consent\b|<(?:[\w.-]+:)?consent[\s/>]")  # in small letters
_SEGMENT = re.compile(rb"(?:\A|[\r\n\x0b\x0c\x1c])[ \t]*CON([^0-9A-Za-z\s])\w*\1")
_BASE64 = re.compile(rb'"data_base64"\s*:\s*"([^"]*)')
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_NO_BASE64 = re.compile(rb"[^0-9A-Za-z+/]")


def rejected(body: bytes, reason: Reason) -> Counted:
    """A message that is rejected, and why. One of the wrong environment was read: nobody refused anything in it."""
    held = reason is not Reason.WRONG_ENVIRONMENT and may_hold_consent(body)
    return Counted(body, [], Reason.CONSENT_OF_NOBODY if held else reason)


def may_hold_consent(text: bytes) -> bool:
    """May this text hold a consent, in whatever format and state it is?

    >>> may_hold_consent(b'{"resourceType": "Consent"'), may_hold_consent(b'{"note": "Consent"')
    (True, False)
    """
    text = _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()), text.replace(b"\0", b""))
    for escape, plain in _ESCAPES:
        text = text.replace(escape, plain)
    if _RESOURCE.search(text.lower()) or _SEGMENT.search(text):
        return True
    return any(may_hold_consent(_unpacked(found[1])) for found in _BASE64.finditer(text))


def _unpacked(text: bytes) -> bytes:
    whole = _NO_BASE64.sub(b"", text.translate(_URL_SAFE))
    return b64decode(whole[: len(whole) // 4 * 4])  # of what was cut off, all that can be read
