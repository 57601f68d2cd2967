"""Character sets of HL7 v2 messages: the names of table 0211, and the Python codec that reads each.

Shared by the policy, which names one for messages that declare none, and by the reader, which obeys MSH-18.
"""

from typing import Final

JAPANESE: Final = "iso2022_jp_ext"  # ISO 2022 switching among ASCII, JIS X 0201, 0208 and 0212
WIDE: Final = "utf-16"
# Table 0211 and spellings seen in practice, in capitals without punctuation. CNS 11643-1992 has no Python codec.
_CODECS: Final = {
    **{f"{prefix}8859{part}": f"iso8859_{part}" for prefix in ("", "ISO") for part in (*range(1, 12), 13, 14, 15)},
    **dict.fromkeys(("ASCII", "USASCII", "ISOIR6"), "ascii"),
    **dict.fromkeys(("UTF8", "UNICODEUTF8"), "utf-8"),
    "LATIN1": "iso8859_1",
    **dict.fromkeys(("CP1252", "WINDOWS1252"), "cp1252"),
    **dict.fromkeys(("ISOIR14", "ISOIR87", "ISOIR159"), JAPANESE),
    **dict.fromkeys(("GB18030", "GB180302000"), "gb18030"),
    **dict.fromkeys(("KSX1001", "EUCKR"), "euc_kr"),
    "BIG5": "big5",
    **dict.fromkeys(("UNICODE", "UNICODEUTF16", "UNICODEUTF32", "UTF16", "UTF32"), WIDE),
}


def codec(name: str) -> str | None:
    """The Python codec of a charset, None of an unknown one. Case and punctuation of the name do not matter.

    >>> codec("UNICODE UTF-8"), codec("8859/1"), codec("KLINGON")
    ('utf-8', 'iso8859_1', None)
    """
    return _CODECS.get("".join(filter(str.isalnum, name.upper())))
