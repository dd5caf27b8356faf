"""`nrgkick-pusher dump DEVICE`: records what a device answers, for a report or as a test of its template.

The form is that of tests/recorded, which the tests replay: a case with the template's parameters, the answers, and
what was read from them. Addresses, serials, logins and the like are removed (`redaction`): what is written may be
shown to anyone. What cannot be replayed as it was says so. Listens between a source and its connection and changes
nothing on the wire.
"""

import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from yarl import URL

from pusher import VERSION
from pusher.config import DeviceConfig
from pusher.once import read_all
from pusher.readers import Device, open_devices
from pusher.redaction import REMOVED, Redaction, is_private_key, without_names
from pusher.sources import Shared, source_module
from pusher.state_log import StateLog
from pusher.templates import ROLE_OF, expand, load_template

__all__ = ["Recorder", "record", "recorded_yaml"]

_PLACES = {"host", "port", "url", "serial", "baudrate", "framing"}
"""Parameters that say where a device is and how it is wired; a replay has it elsewhere."""
_INT32 = 1 << 31


class Recorder(Shared):
    """Connections that note what comes over them, by the way each kind of source asks."""

    def __init__(self, config: DeviceConfig, folder: Path) -> None:
        super().__init__()
        self.config = config
        self.doubts: list[str] = []
        """Why a replay would not be what the device is."""
        self.parameters, hidden = _parameters(config, folder)
        self.told = Redaction(hidden)
        self._clean_options = self._expanded(folder)
        self._http: dict[str, Any] = {}
        self._queries: dict[str, str] = {}
        self._registers: dict[int, dict[str, dict[int, list[int]]]] = {}
        self._topics: dict[str, Any] = {}

    def _expanded(self, folder: Path) -> Any:
        """The options as a replay has them, with the parameters as they are recorded."""
        config = self.config
        if config.template is None:
            self.doubts.append(
                f'this device has a source of its own ("{config.kind}"), and the tests replay templates: '
                "write its source as a template, beside this file's form"
            )
            return config.options
        where = {key: REMOVED for key in ("host", "url") if key in load_template(config.template, folder).parameters}
        kind, given = expand(config.template, where | self.parameters, config.category, folder)
        return source_module(kind).Options.model_validate(given)

    def connection(self, key: object, make: Callable[[], Any], close: Callable[[Any], Awaitable[None]]) -> Any:
        """The connection, with an ear on it from its first use."""
        known = key in self.connections
        made = super().connection(key, make, close)
        if not known:
            self._listen(made)
        return made

    def _listen(self, made: Any) -> None:
        for name, note in {"fetch": self._note_answer, "read": self._note_registers, "last": self._note_topic}.items():
            method = getattr(made, name, None)
            if callable(method):
                setattr(made, name, _overheard(method, note))

    def case(self) -> dict[str, Any]:
        """What was heard, in the form of tests/recorded; empty if nothing was."""
        heard = {"http": self._http, "modbus": self._registers, "mqtt": self._topics}
        return {kind: what for kind, what in heard.items() if what}

    # ------------------------------------------------------------------ HTTP

    def _note_answer(self, arguments: tuple[Any, ...], answer: Any) -> None:
        request = arguments[0]
        url = URL(request.url)
        path = self.told.text(url.path)
        if url.scheme == "https":
            self._http["tls"] = True
        if request.body is not None:
            post = {"body": self._body(request), "answer": self.told.document(answer.document)}
            self._http.setdefault("posts", {})[path] = post
        elif request.format == "sml":
            self._http.setdefault("sml", {})[path] = {obis: _sml(value) for obis, value in answer.document.items()}
        else:
            self._http.setdefault("answers", {})[path] = self.told.document(answer.document)
        if self._queries.setdefault(path, url.query_string) != url.query_string:
            self._doubt(f"{path} was asked with different queries; only the last answer is kept")

    def _body(self, request: Any) -> Any:
        """What a replay posts there: the same, made with the parameters as they are recorded."""
        options = self._clean_options
        if self.config.template is None:
            return self.told.document(json.loads(request.body))
        if options.login is not None and URL(request.url).path == URL(options.absolute(options.login.url)).path:
            return json.loads(options.login.body_json())
        return options.body

    # ------------------------------------------------------------------ Modbus

    def _note_registers(self, arguments: tuple[Any, ...], answer: Any) -> None:
        unit, span = arguments[0], arguments[1]
        numbers = {
            register - span.first
            for _, value in self.config.options.readings()  # type: ignore[attr-defined]  # what reads registers has them
            if value.span is not None and value.span.table == span.table
            for register in range(value.span.first, value.span.end)
        }
        words = without_names(list(answer.words), numbers)
        self._registers.setdefault(unit, {}).setdefault(span.table, {})[span.first] = words

    # ------------------------------------------------------------------ MQTT

    def _note_topic(self, arguments: tuple[Any, ...], arrived: Any) -> None:
        message = arrived.payload.decode(errors="replace")
        with suppress(ValueError, RecursionError):
            message = json.loads(message)
        self._topics[self.told.text(arguments[0])] = self.told.document(message)

    def _doubt(self, why: str) -> None:
        if why not in self.doubts:
            self.doubts.append(why)


def _overheard(method: Callable[..., Any], note: Callable[[tuple[Any, ...], Any], None]) -> Callable[..., Any]:
    async def call(*arguments: Any, **more: Any) -> Any:
        answer = await method(*arguments, **more)
        note(arguments, answer)
        return answer

    return call


def _parameters(config: DeviceConfig, folder: Path) -> tuple[dict[str, Any], list[str]]:
    """A template's parameters as they may be shown, and the words in them that may not."""
    if config.template is None:
        return {}, _secrets(config.options)
    known = load_template(config.template, folder).parameters
    shown: dict[str, Any] = {}
    hidden: list[str] = []
    for key, value in config.parameters.items():
        secret = known[key].type == "secret"
        if key in _PLACES:
            if isinstance(value, str) and len(value) > 3 and any(sign in value for sign in ".0123456789"):
                hidden.append(value.partition("//")[2] or value)
        elif key.removesuffix("_file") != key and key.removesuffix("_file") in known:
            hidden.append(str(value))
            shown[key.removesuffix("_file")] = REMOVED  # as if the secret had been given there
        elif isinstance(value, str) and (secret or is_private_key(key) or Redaction().text(value) != value):
            hidden.append(value)
            shown[key] = REMOVED
        else:
            shown[key] = value
    return shown, hidden


def _secrets(node: Any) -> list[str]:
    """Every secret, file of one, user and host in the options of a source."""
    from pydantic import SecretStr

    if isinstance(node, SecretStr):
        return [node.get_secret_value()]
    if isinstance(node, BaseModel):
        named = [
            str(value) for key, value in node if isinstance(value, str) and (is_private_key(key) or "_file" in key)
        ]
        hosts = [host for key, value in node if key == "url" and value and (host := URL(value).host)]
        return named + hosts + [secret for _, value in node for secret in _secrets(value)]
    if isinstance(node, dict):
        return [secret for value in node.values() for secret in _secrets(value)]
    return []


def _sml(value: float) -> list[int]:
    """A reading as scaler and number, as fine as 32 bits allow."""
    scaler = -3
    while abs(round(value * 10.0**-scaler)) >= _INT32:
        scaler += 1
    return [scaler, round(value * 10.0**-scaler)]


async def record(config: DeviceConfig, folder: Path, said: StateLog) -> tuple[Device, Recorder]:
    """Read one device of a configuration in `folder` once, noting all that it answers."""
    recorder = Recorder(config, folder)
    [device] = open_devices([config], recorder, said)
    try:
        await read_all([device])
    finally:
        await device.close()
        await recorder.close()
    return device, recorder


def recorded_yaml(device: Device, recorder: Recorder) -> str:
    """What was recorded, in the form of tests/recorded; comments say what a replay could not show."""
    from ruamel.yaml import YAML

    config = device.config
    case: dict[str, Any] = {"says": "as it answered"}
    if recorder.parameters:
        case["parameters"] = recorder.parameters
    case |= recorder.case()
    if device.newest is not None and device.error is None:
        case["expect"] = {ROLE_OF[config.category]: device.newest.values}
    else:
        case["error"] = recorder.told.text(device.error or "nothing was read")
        recorder.doubts.append("it could not be read, so there is nothing to expect of a replay")
    kind = config.template or config.kind
    out = StringIO()
    out.writelines(f"# {doubt}\n" for doubt in recorder.doubts)
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel types it by its default, True
    yaml.dump({"built_from": f"a dump of {kind} by nrgkick-pusher {VERSION}", "cases": [case]}, out)
    return out.getvalue()
