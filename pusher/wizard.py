"""`nrgkick-pusher init`: asks for the cloud and the devices, tries each at once, writes the configuration.

Everything that it asks can be given as an option, so that a script needs no answers. Writes a token to a file of its
own, readable by its owner alone, and never into the configuration.
"""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pusher.config import ROLES, Config
from pusher.config_file import load_config
from pusher.config_schema import config_schema
from pusher.once import read_config
from pusher.state_log import StateLog
from pusher.templates import Template, TemplateError, load_template, template_names
from pusher.yaml_lines import Mistakes

__all__ = ["Answers", "DeviceAnswer", "ask", "configuration", "parse_device", "try_device", "write_configuration"]

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
    pusher: str | None = None
    state_dir: Path | None = None
    run_dir: Path | None = None
    devices: list[DeviceAnswer] = field(default_factory=list)


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
    ]
    if answers.pusher:
        lines += ["# This pusher's name within the site.", f"pusher: {answers.pusher}"]
    if answers.state_dir:
        lines += ["# Rows wait here until the cloud has stored them.", f"state_dir: {_text(str(answers.state_dir))}"]
    if answers.run_dir:
        lines += ["# pusher.sock, for a proxy and for status.", f"run_dir: {_text(str(answers.run_dir))}"]
    lines += [
        "# A power that moves by more than dead_band_w is posted at once; heartbeat is the longest silence.",
        "live: {dead_band_w: 20, heartbeat: 20s}",
        "# History: a row of means every minute, sent every five; bounded on disk.",
        "archive: {every: 60s, send_every: 5m, max_bytes: 100MB, max_age: 30d}",
        "devices:",
    ]
    for device in answers.devices:
        lines += _device_lines(device)
    return "\n".join(lines) + "\n"


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


def loaded(text: str, folder: Path) -> Config:
    """A configuration's text as it would be read from `folder`; raises Mistakes."""
    draft = folder / ".pusher.yaml.draft"
    draft.write_text(text, encoding="utf-8")
    try:
        return load_config(draft)
    finally:
        draft.unlink()


async def try_device(answers: Answers, device: DeviceAnswer, folder: Path, said: StateLog) -> Sequence[Any]:
    """Read one device as it would be configured; raises Mistakes if it cannot be."""
    alone = Answers(answers.url, answers.token_file, devices=[device])
    return await read_config(loaded(configuration(alone), folder), said)


def write_configuration(answers: Answers, path: Path) -> None:
    """Write the configuration and the schema beside it; raises Mistakes before anything is written."""
    text = configuration(answers)
    loaded(text, path.parent)
    path.write_text(text, encoding="utf-8")
    (path.parent / SCHEMA_FILE).write_text(json.dumps(config_schema(), indent=1) + "\n", encoding="utf-8")


def ask(
    answers: Answers, folder: Path, said: StateLog, *, prompt: Callable[..., Any], say: Callable[[Any], None]
) -> None:
    """Ask for devices until there are no more, trying each at once. `prompt(text, default)` asks, `say` shows."""
    from pusher.tables import readings_table

    while True:
        role = prompt(f"A device ({', '.join(ROLES)}; empty: no more)", default="")
        if not role:
            return
        fitting = [name for name in template_names(folder) if role in load_one(name, folder).delivers]
        if role not in ROLES or not fitting:
            say(f'there is no "{role}"')
            continue
        for name in fitting:
            say(f"  {name}: {load_one(name, folder).product}")
        device = _ask_device(role, answers, fitting, folder, prompt, say)
        if device is None:
            continue
        try:
            devices = asyncio.run(try_device(answers, device, folder, said))
        except Mistakes as mistakes:
            say(str(mistakes))
            continue
        say(readings_table(devices))
        if prompt("Keep it? (y/n)", default="y" if not devices[0].error else "n").lower().startswith("y"):
            answers.devices.append(device)


def _ask_device(
    role: str,
    answers: Answers,
    fitting: list[str],
    folder: Path,
    prompt: Callable[..., Any],
    say: Callable[[Any], None],
) -> DeviceAnswer | None:
    name = prompt("Template", default=fitting[0])
    if name not in fitting:
        say(f'no template "{name}" delivers {role}')
        return None
    template = load_one(name, folder)
    given: dict[str, str] = {}
    for key, parameter in template.parameters.items():
        default = "" if parameter.default is None else str(parameter.default)
        text = prompt(f"{key} ({parameter.help})", default=default)
        if text != default:
            given[key] = text
    index = sum(device.role == role for device in answers.devices)
    title = prompt("Its name, as the wallbox's app shows it", default="") if role != "load" else ""
    return DeviceAnswer(role, index, name, title, typed(template, given))
