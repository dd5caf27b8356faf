"""`nrgkick-pusher dump DEVICE`: records what a device answers, for a report or as a test of its template.

The form is that of tests/recorded, which the tests replay. Addresses, serials, tokens and the like are removed: what
is written may be shown to anyone. Listens between a source and its connection and changes nothing on the wire.
"""

import json
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import StringIO
from typing import Any
from urllib.parse import urlsplit

from pusher import VERSION
from pusher.config import ROLES, DeviceConfig
from pusher.once import read_all
from pusher.readers import Device, open_devices
from pusher.sources import Shared
from pusher.state_log import StateLog

__all__ = ["Recorder", "record", "recorded_yaml", "without_secrets"]

_TELLING_KEYS = re.compile(
    r"serial|^sn$|token|passw|secret|mac$|^mac|ssid|^ip|_ip$|host|user|mail|uuid|imei|imsi|iccid|latit|longit|^lat$"
    r"|^lon$|address|^key$|apikey|api_key|owner|street|city|unique|^id$|_id$",
    re.IGNORECASE,
)
_TELLING_TEXT = re.compile(
    r"\d{1,3}(\.\d{1,3}){3}|([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}|[\w.+-]+@[\w-]+\.[\w.]+|eyJ[\w.-]+"
    r"|\b(?=\w*\d)[0-9A-Za-z]{10,}\b"
)
REMOVED = "removed"
ASCII_RUN = 4
"""So many registers in a row that hold only printable characters are a name or a serial number, not numbers."""


class Recorder(Shared):
    """Connections that note what comes over them, by the way each kind of source asks."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}
        self.registers: dict[int, dict[str, dict[int, list[int]]]] = {}
        self.topics: dict[str, Any] = {}

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

    def _note_answer(self, arguments: tuple[Any, ...], answer: Any) -> None:
        path = urlsplit(arguments[0].url).path or "/"
        self.answers[_clean_text(path)] = without_secrets(answer.document)

    def _note_registers(self, arguments: tuple[Any, ...], answer: Any) -> None:
        unit, span = arguments[0], arguments[1]
        words = without_names(list(answer.words))
        self.registers.setdefault(unit, {}).setdefault(span.table, {})[span.first] = words

    def _note_topic(self, arguments: tuple[Any, ...], arrived: Any) -> None:
        payload = arrived.payload
        text = payload.decode(errors="replace") if isinstance(payload, bytes) else payload
        with suppress(ValueError, TypeError):
            text = json.loads(text)
        self.topics[_clean_text(arguments[0])] = without_secrets(text)


def _overheard(method: Callable[..., Any], note: Callable[[tuple[Any, ...], Any], None]) -> Callable[..., Any]:
    async def call(*arguments: Any, **more: Any) -> Any:
        answer = await method(*arguments, **more)
        note(arguments, answer)
        return answer

    return call


def without_secrets(node: Any, key: str = "") -> Any:
    """A document without what tells whose it is: values of telling keys, and texts that look like an address or id."""
    if isinstance(node, dict):
        return {_clean_text(str(name)): without_secrets(value, str(name)) for name, value in node.items()}
    if isinstance(node, list):
        return [without_secrets(item, key) for item in node]
    if isinstance(node, bool) or node is None:
        return node
    if _TELLING_KEYS.search(key):
        return REMOVED if isinstance(node, str) else 0
    return _clean_text(node) if isinstance(node, str) else node


def _clean_text(text: str) -> str:
    return _TELLING_TEXT.sub(REMOVED, text)


def without_names(words: list[int]) -> list[int]:
    """Registers with every longer run of text replaced by zeros."""
    texts = [all(32 <= byte < 127 for byte in divmod(word, 256)) for word in words]
    cleaned, position = list(words), 0
    while position < len(words):
        end = position
        while end < len(words) and texts[end]:
            end += 1
        if end - position >= ASCII_RUN:
            cleaned[position:end] = [0] * (end - position)
        position = max(end, position + 1)
    return cleaned


async def record(config: DeviceConfig, said: StateLog) -> tuple[Device, Recorder]:
    """Read one device once, noting all that it answers."""
    recorder = Recorder()
    [device] = open_devices([config], recorder, said)
    try:
        await read_all([device])
    finally:
        await device.close()
        await recorder.close()
    return device, recorder


def recorded_yaml(device: Device, recorder: Recorder) -> str:
    """What was recorded, in the form of tests/recorded."""
    from ruamel.yaml import YAML

    case: dict[str, Any] = {"says": "as it answered"}
    if recorder.answers:
        case["http"] = {"answers": recorder.answers}
    if recorder.registers:
        case["modbus"] = recorder.registers
    if recorder.topics:
        case["mqtt"] = recorder.topics
    role = next(role for role, (category, _) in ROLES.items() if category == device.config.category)
    case["expect"] = {role: device.newest.values if device.newest else {}}
    kind = device.config.template or device.config.kind
    out = StringIO()
    yaml = YAML(typ="safe")
    yaml.default_flow_style = None
    yaml.width = 120
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]  # ruamel types it by its default, True
    yaml.dump({"built_from": f"a dump of {kind} by nrgkick-pusher {VERSION}", "cases": [case]}, out)
    return out.getvalue()
