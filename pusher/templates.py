"""Device templates: how a product is read, one YAML file each, with the public source of every fact in it.

The product's own part is in `pusher/devices`; a file of the same form beside the configuration comes first, so that an
owner can add a device or mend one. A template names its parameters; `${name}` in it stands for one, and what stands for
a parameter that is not given and has no default is left out, as is a mapping with `if_given: name` (or a list of names)
if none of these is given. Templates are data: nothing in them is run.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from pusher.sources import KINDS
from pusher.yaml_lines import Mistakes, Place, Written, read_yaml
from schemas.document import LOAD, Part
from schemas.problem import explain, nearest

__all__ = ["ROLE_OF", "Parameter", "Template", "TemplateError", "expand", "load_template", "template_names"]

BUILT_IN = Path(__file__).parent / "devices"

ROLE_OF = {
    "inverters": "inverter",
    "energy_meters": "energy_meter",
    "batteries": "battery",
    "smart_loads": "smart_load",
    LOAD: "load",
}
"""What a template calls a device of each of the document's categories."""

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_PARAMETER = re.compile(r"\$\{([a-z_][a-z0-9_]*)\}")
_TYPES: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "secret": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
_LEFT_OUT = object()
_IF_GIVEN = "if_given"

Role = Literal["inverter", "energy_meter", "battery", "smart_load", "load"]


class TemplateError(Exception):
    """A template cannot be used; `found` holds each mistake with its place within the device's configuration."""

    def __init__(self, found: Sequence[tuple[Place, str]]) -> None:
        super().__init__("\n".join(text for _, text in found))
        self.found = list(found)


class Parameter(Part):
    """Something that a template must be told."""

    help: str
    type: Literal["text", "secret", "integer", "number", "boolean"] = "text"
    default: str | int | float | bool | None = None
    choices: list[str | int] | None = None
    optional: bool = Field(default=False, description="may be left out though it has no default")


class Template(Part):
    """One product, as its file describes it."""

    product: str
    maker: str
    checked: Literal["documentation", "device"] = Field(
        description="whether the template was only compared with its sources, or tried on the device"
    )
    sources: Annotated[list[str], Field(min_length=1)]
    notes: str = ""
    parameters: dict[str, Parameter]
    delivers: dict[Role, dict[str, dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class _Read:
    template: Template
    written: Written


def _files(folder: Path | None) -> Iterator[tuple[str, Path]]:
    for place in (folder, BUILT_IN):
        if place is not None and place.is_dir():
            yield from ((path.stem, path) for path in sorted(place.glob("*.yaml")) if _NAME.fullmatch(path.stem))


def template_names(folder: Path | None = None) -> list[str]:
    """The names of all templates: the built-in ones and those among the YAML files in `folder`."""
    return sorted({name for name, path in _files(folder) if path.parent == BUILT_IN or _is_template(path)})


def _is_template(path: Path) -> bool:
    try:
        data = read_yaml(path, _AsWritten()).data
    except Mistakes:
        return False
    return isinstance(data, dict) and "delivers" in data


def load_template(name: str, folder: Path | None = None) -> Template:
    """A template by its name; raises TemplateError if there is none or its file is wrong."""
    return _load(name, folder).template


def _load(name: Any, folder: Path | None) -> _Read:
    here: Place = ("template",)
    for known, path in _files(folder):
        if known == name:
            return _read(path, path.stat().st_mtime_ns)
    names = template_names(folder)
    meant = nearest(str(name), names)
    hint = f'did you mean "{meant}"?' if meant else f"known: {', '.join(names)}"
    raise TemplateError([(here, f'there is no template "{str(name)[:80]}"; {hint}')])


class _AsWritten(dict[str, str]):
    """An environment that leaves every `${name}` as it is: in a template it is a parameter."""

    def __contains__(self, _: object) -> bool:
        return True

    def get(self, name: str, _: Any = None) -> str:
        return f"${{{name}}}"


@lru_cache(maxsize=64)
def _read(path: Path, _changed_ns: int) -> _Read:
    here: Place = ("template",)
    try:
        written = read_yaml(path, _AsWritten())
        template = Template.model_validate(written.data)
    except Mistakes as error:
        raise TemplateError([(here, str(mistake)) for mistake in error.found]) from error
    except ValidationError as error:
        found = [
            (here, str(written.mistake(item.loc, f"{'.'.join(map(str, item.loc))}: {item.msg}")))
            for item in explain(error, Template)
        ]
        raise TemplateError(found) from error
    mistakes = list(_own_mistakes(template, written))
    if mistakes:
        raise TemplateError([(here, text) for text in mistakes])
    return _Read(template, written)


def _own_mistakes(template: Template, written: Written) -> Iterator[str]:
    """What is wrong in a template that has the right form."""
    for role, kinds in template.delivers.items():
        place = ("delivers", role)
        if len(kinds) != 1 or not kinds.keys() <= KINDS.keys():
            text = f"{role} is read by exactly one of {', '.join(KINDS)}; here: {', '.join(kinds) or 'none'}"
            yield str(written.mistake(place, text))
        for name in sorted(set(_names_in(kinds)) - template.parameters.keys()):
            yield str(written.mistake(place, f'{role} uses "${{{name}}}", which is not among the parameters'))
    for name, parameter in template.parameters.items():
        default = parameter.default
        if default is not None and not _fits(parameter, default):
            yield str(written.mistake(("parameters", name), f'the default of "{name}" is no {parameter.type}'))


def _names_in(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        wanted = node.get(_IF_GIVEN, [])
        yield from wanted if isinstance(wanted, list) else [wanted]
        for value in node.values():
            yield from _names_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from _names_in(value)
    elif isinstance(node, str):
        yield from _PARAMETER.findall(node)


def _fits(parameter: Parameter, value: Any) -> bool:
    right_type = isinstance(value, _TYPES[parameter.type]) and (
        parameter.type == "boolean" or not isinstance(value, bool)
    )
    return right_type and (parameter.choices is None or value in parameter.choices)


def expand(name: Any, parameters: dict[str, Any], category: str, folder: Path | None) -> tuple[str, dict[str, Any]]:
    """The kind of source and its options for a device of `category`, as if the owner had written them.

    `parameters` are what stands beside `template:` in the device's configuration, `folder` is the configuration's.
    Raises TemplateError with every mistake, at the parameter that it is about.
    """
    template = _load(name, folder).template
    role = ROLE_OF[category]
    found: list[tuple[Place, str]] = []
    if role not in template.delivers:
        found.append((("template",), f'"{name}" delivers no {role}; it delivers: {", ".join(template.delivers)}'))
    values = _values(template, parameters, str(name), found)
    if found:
        raise TemplateError(found)
    ((kind, options),) = template.delivers[role].items()  # type: ignore[index]  # a role that is not there was found above
    return kind, _filled(options, values)


def _values(
    template: Template, given: dict[str, Any], name: str, found: list[tuple[Place, str]]
) -> dict[str, str | int | float | bool | None]:
    for key in given:
        if key not in template.parameters:
            meant = nearest(str(key), list(template.parameters))
            hint = f'did you mean "{meant}"?' if meant else f"it has: {', '.join(template.parameters)}"
            found.append(((key,), f'template "{name}" has no parameter "{str(key)[:80]}"; {hint}'))
    values: dict[str, Any] = {}
    for key, parameter in template.parameters.items():
        value = given.get(key)
        if value is None:
            if parameter.default is None and not parameter.optional:
                found.append((("template",), f'template "{name}" needs "{key}": {parameter.help}'))
            values[key] = parameter.default
        elif not _fits(parameter, value):
            allowed = " or ".join(map(str, parameter.choices)) if parameter.choices else f"a {parameter.type}"
            found.append(((key,), f'"{key}" is {allowed}: {parameter.help}'))
        else:
            values[key] = value
    return values


def _filled(node: Any, values: dict[str, Any]) -> Any:
    """`node` with parameters filled in; one that is a whole text keeps its type, one without a value is left out."""
    if isinstance(node, dict):
        if _IF_GIVEN in node:
            wanted = node[_IF_GIVEN]
            if all(values.get(name) is None for name in (wanted if isinstance(wanted, list) else [wanted])):
                return _LEFT_OUT
            node = {key: value for key, value in node.items() if key != _IF_GIVEN}
        filled = {key: _filled(value, values) for key, value in node.items()}
        kept = {key: value for key, value in filled.items() if value is not _LEFT_OUT}
        return kept if kept or not node else _LEFT_OUT
    if isinstance(node, list):
        return [value for value in (_filled(item, values) for item in node) if value is not _LEFT_OUT]
    if not isinstance(node, str):
        return node
    if (whole := _PARAMETER.fullmatch(node)) is not None:
        value = values[whole[1]]
        return _LEFT_OUT if value is None else value
    if any(values[name] is None for name in _PARAMETER.findall(node)):
        return _LEFT_OUT
    return _PARAMETER.sub(lambda match: str(values[match[1]]), node)
