"""Reads a configuration: one YAML file, judged as a whole, so that every mistake is named at once with its line.

Reading it opens no device and no connection. A token or password must never reach a message. Source: design section 7.
"""

import os
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, Field, ValidationError

from pusher.config import ROLES, Archive, Cloud, Config, DeviceConfig, Live, at_least, role_title
from pusher.durations import Duration
from pusher.sources import KINDS, source_module
from pusher.templates import TemplateError, expand
from pusher.yaml_lines import Mistake, Mistakes, Written, read_yaml
from schemas.document import Part
from schemas.problem import FieldError, explain, nearest
from schemas.site import Name

__all__ = ["CommonOptions", "FileOptions", "default_path", "judge", "load_config"]

Place = tuple[str | int, ...]


class FileOptions(Part):
    """The file's own keys; what stands in each of `devices` is judged one by one."""

    cloud: Cloud
    pusher: Name | None = Field(None, description="this pusher's name within the site; default: the host's")
    state_dir: str = "/var/lib/nrgkick-pusher"
    run_dir: str = "/run/nrgkick-pusher"
    live: Live = Live()
    archive: Archive = Archive()
    devices: list[dict[str, Any]] = Field(min_length=1)


class CommonOptions(Part):
    """What every device may have beside its role and its source."""

    every: Annotated[Duration, at_least(0.2, "200ms")] = Field(5.0, description="how often it is read")
    timeout: Annotated[Duration, at_least(0.05, "50ms")] = Field(3.0, description="how long one read may take")
    info: dict[str, Any] = Field({}, description="description shown to the wallbox and in messages")


def default_path() -> Path:
    """`./pusher.yaml` if it is there, else the system's."""
    here = Path("pusher.yaml")
    return here if os.path.exists(here) else Path("/etc/nrgkick-pusher/pusher.yaml")  # noqa: PTH110 - never raises


def load_config(path: Path, environment: Mapping[str, str] | None = None) -> Config:
    """Read and judge a configuration; raises Mistakes with everything that is wrong in it."""
    return judge(read_yaml(path) if environment is None else read_yaml(path, environment), path.parent)


def judge(written: Written, folder: Path) -> Config:
    """Judge what stands, or is to stand, in a file in `folder`; raises Mistakes with everything that is wrong in it."""
    mistakes: list[Mistake] = list(written.mistakes)
    data = written.data
    if not isinstance(data, dict):
        raise Mistakes([written.mistake((), 'a configuration begins with "cloud:" and "devices:"')])
    top: FileOptions | None = None
    try:
        top = FileOptions.model_validate(data)
        top.cloud.read_token()
    except ValidationError as error:
        mistakes += [_mistake(written, (), "the file", item) for item in explain(error, FileOptions)]
    except OSError as error:
        mistakes.append(written.mistake(("cloud", "token_file"), f"token_file cannot be read: {error.strerror}"))
    except ValueError as error:
        mistakes.append(written.mistake(("cloud", "token_file"), str(error)))
    devices: list[DeviceConfig] = []
    entries = data.get("devices")
    for position, entry in enumerate(entries if isinstance(entries, list) else ()):
        if isinstance(entry, dict):
            judged = _Device(written, folder, ("devices", position), entry)
            mistakes += judged.mistakes
            if judged.device is not None:
                devices.append(judged.device)
    mistakes += _doubles(written, entries)
    if mistakes or top is None:
        unset = {mistake.line for mistake in written.mistakes}
        raise Mistakes([m for m in dict.fromkeys(mistakes) if m in written.mistakes or m.line not in unset])
    return Config(
        cloud=top.cloud,
        pusher=top.pusher or _host_name(),
        state_dir=Path(top.state_dir),
        run_dir=Path(top.run_dir),
        live=top.live,
        archive=top.archive,
        devices=tuple(devices),
    )


def _host_name() -> str:
    name = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().partition(".")[0].lower()).strip("-")[:63]
    return name or "pusher"


def _mistake(written: Written, place: Place, where: str, item: FieldError) -> Mistake:
    """A mistake that pydantic found, at its line, with the nearest known key."""
    loc = item.loc
    within = ".".join(str(part) for part in loc[:-1]) or where
    if item.msg.startswith("unknown key"):
        unknown, _, hint = item.msg.partition(";")
        text = f"{unknown} in {within};{hint}"
    elif item.msg == "field required":
        text = f'"{loc[-1]}" is missing in {within}'
    else:
        text = f"{'.'.join(map(str, loc)) or where}: {item.msg}"
    if where != "the file" and where not in text:
        text = f"{where}: {text}"
    return written.mistake((*place, *loc), text)


class _Device:
    """Judges one entry of `devices`."""

    def __init__(self, written: Written, folder: Path, place: Place, entry: dict[str, Any]) -> None:
        self._written, self._folder, self._place = written, folder, place
        self.mistakes: list[Mistake] = []
        self.device: DeviceConfig | None = None
        self._where = f"device {int(place[-1]) + 1}"
        role = self._role(entry)
        common = self._common(entry)
        info = self._info(role, common.info) if role and common else {}
        if role:
            self._where = str(info.get("name") or role_title(role[0], role[1]))
        source = self._source(entry, role[0] if role else None)
        if role and common and source and not self.mistakes:
            kind, options, template = source
            self.device = DeviceConfig(
                category=role[0],
                index=role[1],
                every_s=common.every,
                timeout_s=common.timeout,
                kind=kind,
                options=options,
                info=info,
                template=template,
                parameters=self._parameters(entry) if template else {},
            )

    def _wrong(self, place: Place, text: str) -> None:
        self.mistakes.append(self._written.mistake((*self._place, *place), f"{self._where}: {text}"))

    def _explained(self, place: Place, error: ValidationError, model: type[BaseModel]) -> None:
        for item in explain(error, model):
            self.mistakes.append(_mistake(self._written, (*self._place, *place), self._where, item))

    def _role(self, entry: dict[str, Any]) -> tuple[str, int] | None:
        given = [role for role in ROLES if role in entry]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            self._wrong((), f"exactly one of {', '.join(ROLES)} says what a device is; here: {found}")
            return None
        role, value = given[0], entry[given[0]]
        category = ROLES[role][0]
        if role == "load":
            if value is not True:
                self._wrong((role,), 'the house load is written "load: true"')
                return None
            return category, 0
        only = category in ("batteries", "smart_loads")
        if isinstance(value, bool) or value not in ((0,) if only else range(5)):
            allowed = "0, for the wallbox knows only one" if only else "0 to 4"
            self._wrong((role,), f"the index of {role} is {allowed}")
            return None
        return category, int(value)

    def _common(self, entry: dict[str, Any]) -> CommonOptions | None:
        try:
            return CommonOptions.model_validate({key: entry[key] for key in CommonOptions.model_fields if key in entry})
        except ValidationError as error:
            self._explained((), error, CommonOptions)
            return None

    def _info(self, role: tuple[str, int], info: dict[str, Any]) -> dict[str, Any]:
        model = next(model for category, model in ROLES.values() if category == role[0])
        if model is None:
            if info:
                self._wrong(("info",), "the house load has no info")
            return {}
        self._where = role_title(*role)
        try:
            return model.model_validate(info).model_dump(exclude_none=True)
        except ValidationError as error:
            self._explained(("info",), error, model)
            return {}

    def _source(self, entry: dict[str, Any], category: str | None) -> tuple[str, BaseModel, str | None] | None:
        rest = {
            key: value for key, value in entry.items() if key not in ROLES and key not in CommonOptions.model_fields
        }
        kinds = [kind for kind in KINDS if kind in rest]
        if "template" in rest and not kinds:
            return self._template(rest, category)
        for key in rest:
            if key not in (*kinds, "template"):
                self._unknown(str(key))
        if len(kinds) != 1 or "template" in rest:
            found = " and ".join([*kinds, *(["template"] if "template" in rest else [])]) or "none"
            self._wrong((), f'one of {", ".join(KINDS)} or "template" says how a device is read; here: {found}')
            return None
        options = self._options(kinds[0], rest[kinds[0]], category, (kinds[0],))
        return None if options is None else (kinds[0], options, None)

    def _unknown(self, key: str) -> None:
        known = [*CommonOptions.model_fields, *KINDS, "template"]
        meant = nearest(key, known)
        hint = f'did you mean "{meant}"?' if meant else f"known keys: {', '.join(known)}"
        place = (*self._place, key)
        self.mistakes.append(self._written.mistake(place, f'unknown key "{key[:80]}" in {self._where}; {hint}'))

    @staticmethod
    def _parameters(entry: dict[str, Any]) -> dict[str, Any]:
        """What stands beside `template:` for it."""
        known = {*ROLES, *CommonOptions.model_fields, "template"}
        return {key: value for key, value in entry.items() if key not in known}

    def _template(self, rest: dict[str, Any], category: str | None) -> tuple[str, BaseModel, str | None] | None:
        name = rest["template"]
        parameters = self._parameters(rest)
        if category is None:
            return None
        try:
            kind, given = expand(name, parameters, category, self._folder)
        except TemplateError as error:
            for place, text in error.found:
                self._wrong(tuple(place), text)
            return None
        options = self._options(kind, given, category, ("template",))
        return None if options is None else (kind, options, name)

    def _options(self, kind: str, given: Any, category: str | None, place: Place) -> BaseModel | None:
        try:
            module = source_module(kind)
        except ImportError as error:
            self._wrong(place, f'the source "{kind}" needs a package that is not installed: {error.name}')
            return None
        try:
            options: BaseModel = module.Options.model_validate({} if given is None else given)
        except ValidationError as error:
            self._explained(place, error, module.Options)
            return None
        if category and hasattr(options, "fit"):
            try:
                options.fit(category)
            except ValueError as error:
                self._wrong((*place, "values"), str(error))
                return None
        return options


def _doubles(written: Written, entries: Any) -> Iterator[Mistake]:
    """Devices that are there twice."""
    seen: dict[tuple[str, Any], int] = {}
    for position, entry in enumerate(entries if isinstance(entries, list) else ()):
        for role in ROLES:
            if isinstance(entry, dict) and role in entry and isinstance(entry[role], int):
                place = ("devices", position, role)
                if (role, entry[role]) in seen:
                    title = role_title(ROLES[role][0], entry[role])
                    first = written.line(("devices", seen[role, entry[role]], role))
                    yield written.mistake(
                        place, f"{title} is there twice, first in line {first}; give it another index"
                    )
                seen.setdefault((role, entry[role]), position)
