"""What a device answers, recorded in the form that tests/recorded replays, without what is the owner's alone.

An owner sends such a recording with a bug report or a new template. Addresses, serial numbers, names of networks,
logins and tokens must never be in it: keys that name such things, texts that look like them, and the words that the
caller gives (`hidden`) are replaced before anything is returned.
"""

import asyncio
import json
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

from pydantic import BaseModel
from yarl import URL

from pusher.sources import Shared, SourceError, source_module
from pusher.templates import ROLE_OF

__all__ = ["RecordingError", "record", "redacted"]

REMOVED = "removed"
_ASK_AGAIN_AFTER_S = 0.2
Kept = Callable[[Sequence[str]], dict[str, Any]]

_PRIVATE_KEY = re.compile(
    r"serial|token|passw|secret|ssid|mac(_|$|addr)|uuid|unique|e?mail|latitude|longitude|hostname|user|"
    r"(^|_)(sn|ip|ipv4|ipv6|id|did|gateway|dns|key|lat|lon|owner|city|street|phone)$|^address$",
    re.IGNORECASE,
)
_PRIVATE_TEXT = re.compile(
    r"\b\d{1,3}(\.\d{1,3}){3}\b"  # IPv4
    r"|\b[0-9a-f]{2}([:-][0-9a-f]{2}){5}\b"  # MAC
    r"|[\w.+-]+@[\w-]+\.[\w.]+"  # mail
    r"|\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}\b"  # IPv6
    r"|\b[0-9a-f]{12,}\b"  # serial numbers, MACs without colons, hashes
    r"|\beyJ[\w.-]{20,}",  # JWT
    re.IGNORECASE,
)


class RecordingError(Exception):
    """Raised for a kind of source that has no device whose answers could be recorded."""


def redacted(node: Any, hidden: Iterable[str] = ()) -> Any:
    """A copy of a JSON document without what is private; numbers stay, but for those under a private key."""
    words = sorted({word for word in hidden if word}, key=len, reverse=True)
    return _redacted(node, words)


def _redacted(node: Any, hidden: list[str]) -> Any:
    if isinstance(node, dict):
        return {
            _hide(str(key), hidden): (
                REMOVED
                if _PRIVATE_KEY.search(str(key)) and not isinstance(value, dict | list | bool | None)
                else _redacted(value, hidden)
            )
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_redacted(value, hidden) for value in node]
    return _hide(node, hidden) if isinstance(node, str) else node


def _each(documents: dict[str, Any], hidden: Sequence[str]) -> dict[str, Any]:
    """Documents by path or topic, which are no keys of a document."""
    return {_hide(place, list(hidden)): redacted(document, hidden) for place, document in documents.items()}


def _hide(text: str, hidden: list[str]) -> str:
    for word in hidden:
        text = text.replace(word, REMOVED)
    return _PRIVATE_TEXT.sub(REMOVED, text)


async def record(
    kind: str, options: BaseModel, category: str, *, says: str, within_s: float, hidden: Sequence[str] = ()
) -> dict[str, Any]:
    """Read the device once; the case that replays it: what the device `says`, its answers, and what was read.

    If nothing can be read `within_s`, the answers that came all the same are recorded, with the `error` instead of what
    is to be expected. Raises RecordingError for a kind without a device.
    """
    shared = Shared()
    try:
        kept = _recorder(kind, options, shared)
        source = source_module(kind).open_source(options, category, shared)
        outcome: dict[str, Any] = {"error": f"no answer within {within_s:g} s"}
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while "expect" not in outcome:
                    try:
                        outcome = {"expect": {ROLE_OF[category]: (await source.read()).values}}
                    except SourceError as error:
                        outcome = {"error": str(error)}
                        if kind != "mqtt":
                            break
                        await asyncio.sleep(_ASK_AGAIN_AFTER_S)  # its messages come when they come
        return {"says": says, **kept(hidden), **redacted(outcome, hidden)}
    finally:
        await shared.close()


def _recorder(kind: str, options: Any, shared: Shared) -> Kept:
    """Put a connection into `shared` that keeps what passes; what it kept is the answer of the function returned."""
    if kind in ("http", "homeassistant"):
        return _record_web(options, shared)
    if kind == "modbus":
        return _record_modbus(options, shared)
    if kind == "mqtt":
        return _record_mqtt(options, shared)
    raise RecordingError(f'a source of the kind "{kind}" has no device to record')


def _record_web(options: Any, shared: Shared) -> Kept:
    from pusher.sources.web import Answer, Request, Web

    answers: dict[str, Any] = {}

    class RecordingWeb(Web):
        async def fetch(self, request: Request) -> Answer:
            answer = await super().fetch(request)
            if request.body is None or request.url == options.url:  # a login's answer is nothing but private
                answers[URL(request.url).path] = answer.document
            return answer

    shared.connection("web", RecordingWeb, Web.close)

    def kept(hidden: Sequence[str]) -> dict[str, Any]:
        if getattr(options, "format", "json") == "sml":
            told = {
                path: {obis: [-3, round(value * 1000)] for obis, value in readings.items() if abs(value) < 2e6}
                for path, readings in answers.items()
            }
            return {"http": {"sml": told}}
        return {"http": {"answers": _each(answers, hidden)}}

    return kept


def _record_modbus(options: Any, shared: Shared) -> Kept:
    from pusher.sources.modbus_link import Answer, Link
    from pusher.sources.registers import Span

    units: dict[int, dict[str, dict[int, list[int]]]] = {}

    class RecordingLink(Link):
        async def read(self, unit: int, span: Span, within_s: float) -> Answer:
            answer = await super().read(unit, span, within_s)
            units.setdefault(unit, {}).setdefault(span.table, {})[span.first] = answer.words
            return answer

    address = options.address()
    shared.connection(address, lambda: RecordingLink(address), Link.close)

    def kept(_: Sequence[str]) -> dict[str, Any]:
        return {"modbus": units}

    return kept


def _record_mqtt(options: Any, shared: Shared) -> Kept:
    from pusher.sources.broker import Broker

    address = options.address()
    broker: Broker = shared.connection(address, lambda: Broker(address), Broker.close)

    def kept(hidden: Sequence[str]) -> dict[str, Any]:
        messages: dict[str, Any] = {}
        for topic, arrived in broker.arrived().items():
            messages[topic] = arrived.payload.decode(errors="replace")
            with suppress(ValueError, RecursionError):
                messages[topic] = json.loads(arrived.payload)
        return {"mqtt": _each(messages, hidden)}

    return kept
