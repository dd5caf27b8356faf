"""A YAML file read with the line of every key, so that each mistake can name its place.

`${NAME}` in a text stands for an environment variable. Never put a value into a message: it may be a secret.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

__all__ = ["Mistake", "Mistakes", "Written", "parse_yaml", "read_yaml"]

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Place = Sequence[str | int]


@dataclass(frozen=True, slots=True)
class Mistake:
    """One thing that is wrong in a file."""

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        """Say it as compilers do: `pusher.yaml:14: unknown key ...`."""
        return f"{self.file}:{self.line}: {self.text}" if self.line else f"{self.file}: {self.text}"


class Mistakes(Exception):
    """A file cannot be used; `found` names everything that is wrong with it."""

    def __init__(self, found: Sequence[Mistake]) -> None:
        """Take the mistakes, in the order of their lines."""
        self.found = sorted(found, key=lambda mistake: mistake.line or 0)
        super().__init__("\n".join(map(str, self.found)))


@dataclass(frozen=True)
class Written:
    """A file as it is written: plain data, and where each part of it stands."""

    file: str
    data: Any
    mistakes: tuple[Mistake, ...]
    """Variables that are not set; the rest can be judged all the same."""
    _tree: Any

    def line(self, place: Place) -> int:
        """The line (from 1) of what stands at a place, or of the nearest thing around it that is written."""
        node, line = self._tree, 1
        for part in place:
            try:
                if isinstance(node, CommentedMap) and part in node:
                    line = node.lc.key(part)[0] + 1
                    node = node[part]
                elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                    line = node.lc.item(part)[0] + 1
                    node = node[part]
                else:
                    break
            except (KeyError, AttributeError):
                break
        return int(line)

    def mistake(self, place: Place, text: str) -> Mistake:
        """A mistake at a place."""
        return Mistake(self.file, self.line(place), text)


def read_yaml(path: Path, environment: Mapping[str, str] = os.environ) -> Written:
    """Read a file; raises Mistakes if it cannot be read or is not YAML."""
    file = path.name
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise Mistakes([Mistake(str(path), None, f"cannot be read: {error.strerror or error}")]) from None
    except UnicodeDecodeError:
        raise Mistakes([Mistake(str(path), None, "is not UTF-8 text")]) from None
    return parse_yaml(file, text, environment)


def parse_yaml(file: str, text: str, environment: Mapping[str, str] = os.environ) -> Written:
    """Take `text` as what stands in a file of that name; raises Mistakes if it is not YAML."""
    try:
        tree = YAML(typ="rt").load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join(str(error.problem or error.context or "it cannot be read").split())
        raise Mistakes([Mistake(file, mark.line + 1 if mark else None, f"not YAML: {problem}")]) from None
    except YAMLError as error:
        raise Mistakes([Mistake(file, None, f"not YAML: {' '.join(str(error).split())[:200]}")]) from None
    missing: list[tuple[list[str | int], str]] = []
    data = _plain(tree, [], environment, missing)
    written = Written(file, data, (), tree)
    mistakes = tuple(
        written.mistake(place, f"the environment variable {name} is not set; set it, or write the value here")
        for place, name in missing
    )
    return Written(file, data, mistakes, tree)


def _plain(
    node: Any, place: list[str | int], environment: Mapping[str, str], missing: list[tuple[list[str | int], str]]
) -> Any:
    """Plain dictionaries, lists, numbers and texts, with variables filled in."""
    if isinstance(node, dict):
        return {key: _plain(value, [*place, key], environment, missing) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(value, [*place, index], environment, missing) for index, value in enumerate(node)]
    if isinstance(node, bool) or node is None:
        return node
    if isinstance(node, int):
        return int(node)
    if isinstance(node, float):
        return float(node)
    if not isinstance(node, str):
        return str(node)  # a date, say: YAML has more kinds of things than we have use for

    def filled_in(match: re.Match[str]) -> str:
        if match[1] not in environment:
            missing.append((place, match[1]))
        return environment.get(match[1], "")

    return _VARIABLE.sub(filled_in, str(node))
