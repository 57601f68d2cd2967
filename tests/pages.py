"""Reading the pages of the project: their code blocks, their tables, and what stands in them as code."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


class Code(NamedTuple):
    """A code block: its language, its text, and the comment that stands on the line before it (`<!-- … -->`)."""

    language: str
    text: str
    mark: str


def blocks(page: Path) -> list[Code]:
    found = re.finditer(r"(?:<!-- ([^\n]*) -->\n)?^```(\w*)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [Code(one[2], one[3], one[1] or "") for one in found]


def marked(page: Path, mark: str) -> dict[str, str]:
    """The blocks whose mark begins so: the rest of the mark → the text."""
    return {one.mark.removeprefix(mark).strip(): one.text for one in blocks(page) if one.mark.startswith(mark)}


def prose(page: Path) -> str:
    """The text without code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def tables(page: Path, heading: str) -> list[list[str]]:
    """The rows (without head) of all tables of the section with that heading, each a list of cells."""
    section = re.split(r"^#+ ", prose(page), flags=re.MULTILINE)
    text = next(part for part in section if part.split("\n", 1)[0].strip("`") == heading)
    rows, head = [], True
    for line in text.splitlines():
        if not line.startswith("|"):
            head = True
        elif set(line) <= set("|- "):
            head = False
        elif not head:
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def words(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


def first_words(page: Path, heading: str) -> list[str]:
    return [word for row in tables(page, heading) for word in words(row[0])]
