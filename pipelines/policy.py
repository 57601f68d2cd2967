"""Reading a policy bundle from its folder. One that does not hold together stops the run before anything is written."""

import hashlib
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from unicodedata import category

import yaml
from pydantic import ValidationError

from schemas.errors import ConfigurationError
from schemas.policy import Policy

PARTS = {  # of the bundle, each a file; policy.yaml holds what has no file of its own, routes/ a file for each route
    "fields": "fields.yaml",
    "sensitivity": "sensitivity.yaml",
    "forms": "consent-forms.yaml",
    "jurisdictions": "jurisdictions.yaml",
    "purposes": "codes/purposes.yaml",
    "programmes": "tables/programmes.yaml",
    "studies": "tables/studies.yaml",
}
KNOWN = {"policy.yaml", *PARTS.values()}


def default() -> Path:
    """The folder of the default bundle, which is package data."""
    return Path(str(files("policies"))) / "default"


def load(folder: Path) -> Policy:
    """The bundle in `folder`. Raises ConfigurationError naming the file and the problem."""
    if not (folder / "policy.yaml").is_file():
        raise ConfigurationError("--policy", f"no policy.yaml in {folder}", "name the folder of a policy bundle")
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name[0] != ".")
    if unknown := [n for n in names if n not in KNOWN and not (n.startswith("routes/") and n.endswith(".yaml"))]:
        raise ConfigurationError(
            "--policy", f"unknown file {unknown[0]} in the bundle", "remove it: a bundle is closed"
        )
    if missing := sorted(KNOWN - set(names)):
        raise ConfigurationError("--policy", f"{missing[0]} is missing", "copy it from policies/default")
    whole = hashlib.sha256()
    parsed: dict[str, Any] = {}
    for name in names:
        try:
            raw = (folder / name).read_bytes()
            parsed[name] = yaml.load(raw, Loader=_OnceLoader)  # noqa: S506  a SafeLoader that refuses more
        except _ControlCharacter:
            raise ConfigurationError("--policy", f"{name} holds a control character", "mend the file") from None
        except (OSError, yaml.YAMLError, ValueError):
            raise ConfigurationError("--policy", f"{name} is not readable YAML", "mend the file") from None
        whole.update(b"%d:%b%d:%b" % (len(name), name.encode(), len(raw), raw))
    bundle = {
        **(parsed["policy.yaml"] if isinstance(parsed["policy.yaml"], dict) else {}),
        **{part: parsed[name] for part, name in PARTS.items()},
        "routes": [content for name, content in parsed.items() if name.startswith("routes/")],
        "digest": whole.hexdigest(),
    }
    try:
        return Policy.model_validate(bundle)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = _where(first["loc"], parsed, [name for name in names if name.startswith("routes/")])
        problem = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError("--policy", f"{where}: {problem}", "mend the bundle") from None


def _where(place: tuple[int | str, ...], parsed: dict[str, Any], routes: list[str]) -> str:
    """The file of a problem, and the place in it, each row by what it is about: "routes/x.yaml: recipe.kind.action"."""
    first, rest = (place[0] if place else ""), place[1:]
    if first == "routes" and rest and isinstance(rest[0], int):
        name, rest = routes[rest[0]], rest[1:]
    elif first in PARTS:
        name = PARTS[str(first)]
    else:
        name, rest = "policy.yaml", place
    within, parts = parsed[name], list[str]()
    for part in rest:
        if isinstance(part, int) and isinstance(within, list):
            within = within[part]
            parts.append(_about(within, part) if isinstance(within, dict) else str(part))
        else:  # what is missing, or a step that the model takes and the file does not have
            within = within.get(part) if isinstance(within, dict) else None
            parts.append(str(part))
    return f"{name}: {'.'.join(parts)}" if parts else name


def _about(row: dict[str, Any], place: int) -> str:
    """The word that a row of a list begins with (`field: kind`): a name, as no value that was pasted there looks."""
    word = next(iter(row.values()), None)
    return word if isinstance(word, str) and re.fullmatch(r"[a-z][a-z0-9_-]*", word) else f"row {place + 1}"


class _ControlCharacter(ValueError):
    """A text holds a character that no eye sees."""


class _OnceLoader(yaml.SafeLoader):
    """YAML's safe loader; a key that stands twice is an error, since the second would silently win, and so is a control
    character: words of a policy stand in payloads, paths and terminals. Only the lines of a long text may end."""

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> str:
        text = str(super().construct_scalar(node))
        if any(category(one) == "Cc" and one != "\n" for one in text):
            raise _ControlCharacter
        return text

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=deep) for key, _ in node.value]
        if len(keys) != len(set(keys)):
            raise ValueError("repeated key")
        return super().construct_mapping(node, deep)
