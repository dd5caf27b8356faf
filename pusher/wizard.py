"""What `nrgkick-pusher init` writes: a commented configuration made of answers, each judged before anything is written.

The configuration may hold a device's password, so it is its owner's alone; the token is in a file of its own. What is
wrong is told by what to correct, never by the line of a file that is not there yet.
"""

import json
import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from pusher.config import ROLES, Cloud, Config
from pusher.config_file import judge
from pusher.config_schema import config_schema
from pusher.once import read_config
from pusher.readers import Device
from pusher.state_log import StateLog
from pusher.templates import Template, TemplateError, load_template
from pusher.yaml_lines import Mistakes, parse_yaml
from schemas.problem import explain

__all__ = [
    "Answers",
    "DeviceAnswer",
    "configuration",
    "judged_answers",
    "judged_token",
    "judged_url",
    "load_one",
    "parse_device",
    "parse_devices",
    "try_device",
    "typed",
    "write_configuration",
]

SCHEMA_FILE = "pusher.schema.json"


@dataclass(frozen=True, slots=True)
class DeviceAnswer:
    """One device as it was asked for or given: role, index, template, and what the template is told."""

    role: str
    index: int
    template: str
    name: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Answers:
    """All that a configuration is made of."""

    url: str
    token_file: Path
    token: str | None = None
    """To be written to `token_file` with the configuration; None: it is there."""
    pusher: str | None = None
    state_dir: Path | None = None
    run_dir: Path | None = None
    devices: list[DeviceAnswer] = field(default_factory=list)


def parse_devices(texts: Sequence[str], folder: Path | None = None) -> list[DeviceAnswer]:
    """The devices of the command line; raises ValueError, also for one that is given twice."""
    devices: list[DeviceAnswer] = []
    for text in texts:
        device = parse_device(text, folder)
        if any((other.role, other.index) == (device.role, device.index) for other in devices):
            raise ValueError(f"{device.role}:{device.index} is given twice; give one of them another index")
        devices.append(device)
    return devices


def parse_device(text: str, folder: Path | None = None) -> DeviceAnswer:
    """A device of the command line: `energy_meter:0=shelly-3em,host=192.168.1.21,name=Grid`; raises ValueError."""
    where, _, rest = text.partition("=")
    role, _, index = where.partition(":")
    template, *pairs = rest.split(",")
    if role not in ROLES or not template or (index and not index.isdecimal()):
        raise ValueError(
            f'"{text}" is no device; write ROLE:INDEX=TEMPLATE,PARAMETER=VALUE..., '
            f'such as "energy_meter:0=shelly-3em,host=192.168.1.21"; roles: {", ".join(ROLES)}'
        )
    given: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise ValueError(f'"{pair}" in "{text}" is no PARAMETER=VALUE')
        given[key.strip()] = value.strip()
    name = given.pop("name", "")
    return DeviceAnswer(role, int(index or 0), template, name, typed(load_one(template, folder), given))


def load_one(name: str, folder: Path | None = None) -> Template:
    """A template by name; raises ValueError that names the nearest one."""
    try:
        return load_template(name, folder)
    except TemplateError as error:
        raise ValueError(str(error)) from None


def typed(template: Template, given: dict[str, str]) -> dict[str, Any]:
    """Texts as the template wants them; what does not fit is left for the check to name."""
    return {key: _typed(template, key, text) for key, text in given.items()}


def _typed(template: Template, key: str, text: str) -> Any:
    kind = template.parameters[key].type if key in template.parameters else "text"
    try:
        if kind == "integer":
            return int(text)
        if kind == "number":
            return float(text)
    except ValueError:
        return text
    if kind == "boolean" and text.lower() in ("true", "false", "yes", "no"):
        return text.lower() in ("true", "yes")
    return text


def configuration(answers: Answers) -> str:
    """The YAML text of a configuration, with comments that say what each part is for."""
    lines = [
        f"# yaml-language-server: $schema={SCHEMA_FILE}",
        '# What this pusher reads, and where it posts. "nrgkick-pusher check --online" tries all of it.',
        "",
        "# The cloud function, and the file that holds the push token for this site.",
        f"cloud: {{url: {_text(answers.url)}, token_file: {_text(str(answers.token_file))}}}",
        *_head(answers),
        "# A power that moves by more than dead_band_w is posted at once; heartbeat is the longest silence.",
        "live: {dead_band_w: 20, heartbeat: 20s}",
        "# History: a row of means every minute, sent every five; bounded on disk.",
        "archive: {every: 60s, send_every: 5m, max_bytes: 100MB, max_age: 30d}",
        *_devices(answers),
    ]
    return "\n".join(lines) + "\n"


def _devices(answers: Answers) -> list[str]:
    return ["devices:", *(line for device in answers.devices for line in _device_lines(device))]


def _head(answers: Answers) -> list[str]:
    lines: list[str] = []
    if answers.pusher:
        lines += ["# This pusher's name within the site.", f"pusher: {_text(answers.pusher)}"]
    if answers.state_dir:
        lines += ["# Rows wait here until the cloud has stored them.", f"state_dir: {_text(str(answers.state_dir))}"]
    if answers.run_dir:
        lines += ["# pusher.sock, for a proxy and for status.", f"run_dir: {_text(str(answers.run_dir))}"]
    return lines


def _device_lines(device: DeviceAnswer) -> list[str]:
    lines = [f"  - {device.role}: {'true' if device.role == 'load' else device.index}"]
    if device.name and device.role != "load":
        lines.append(f"    info: {{name: {_text(device.name)}}}")
    lines.append(f"    template: {device.template}")
    lines += [f"    {key}: {_text(value)}" for key, value in device.parameters.items()]
    return lines


def _text(value: Any) -> str:
    """A value as YAML: JSON is a part of it, and needs no rules of quoting."""
    return json.dumps(value, ensure_ascii=False)


def judged_url(text: str) -> str:
    """The address of the function, if it can be one; raises ValueError with the reason."""
    try:
        return Cloud(url=text.strip(), token=SecretStr("not asked for")).url
    except ValidationError as error:
        raise ValueError(explain(error, Cloud)[0].msg) from None


def judged_token(text: str) -> str:
    """A token, if it can be one; raises ValueError with the reason, which holds nothing of it."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise ValueError('that is not one token; make one with "nrgkick-cloud token --scope push"')
    return token


def judged_answers(answers: Answers, folder: Path) -> None:
    """Raise ValueError for what is wrong beside the cloud and the devices: the pusher's name, its directories."""
    _judged([*_head(answers), _CLOUD, "devices: [{load: true, simulated: {}}]"], folder)


_CLOUD = "cloud: {url: http://localhost, token: not asked for}"
"""Stands in where the cloud is not what is judged."""


def _judged(lines: Sequence[str], folder: Path) -> Config:
    try:
        return judge(parse_yaml("", "\n".join(lines)), folder)
    except Mistakes as mistakes:
        raise ValueError("\n".join(mistake.text for mistake in mistakes.found)) from None


async def try_device(device: DeviceAnswer, folder: Path, said: StateLog) -> Device:
    """Read one device as it would be configured; raises ValueError if it cannot be."""
    [read] = await read_config(_judged([_CLOUD, "devices:", *_device_lines(device)], folder), said)
    return read


def write_configuration(answers: Answers, path: Path) -> None:
    """Write the configuration, the schema beside it, and the token if it is not there yet.

    Raises ValueError or OSError, and has then left no token behind.
    """
    _judged([_CLOUD, *_head(answers), *_devices(answers)], path.parent)
    new = answers.token is not None and not answers.token_file.exists()
    try:
        if answers.token is not None:
            _write_private(answers.token_file, answers.token + "\n")
        (path.parent / SCHEMA_FILE).write_text(json.dumps(config_schema(), indent=1) + "\n", encoding="utf-8")
        _write_private(path, configuration(answers))
    except BaseException:
        if new:
            answers.token_file.unlink(missing_ok=True)
        raise


def _write_private(path: Path, text: str) -> None:
    """Write a file for its owner alone, whole or not at all.

    One that nobody else could read before keeps its owner, group and mode: an installed service reads it by its group.
    """
    path = path.resolve()
    try:
        descriptor, made = tempfile.mkstemp(dir=path.parent)  # made with 0600
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
            with suppress(FileNotFoundError, PermissionError):
                old = path.stat()
                if not old.st_mode & 0o007:
                    os.chown(made, old.st_uid, old.st_gid)
                    os.chmod(made, old.st_mode & 0o770)  # noqa: PTH101 - as chown
            os.replace(made, path)  # noqa: PTH105 - as chown
        except BaseException:
            os.unlink(made)  # noqa: PTH108 - as chown
            raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
