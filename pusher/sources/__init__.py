"""Sources: how a device's values are read. One small module per kind; its library is imported only if it is used.

A source module offers `Options` (a pydantic model of its part of the configuration, `schemas.document.Part` as base)
and `open_source(options, category, shared) -> Source`, which does no I/O: a dead device is a state, not an error at
start. `category` is the document's: "inverters", "energy_meters", "batteries", "smart_loads" or "load_power_w".
A failed read raises SourceError and never looks like a value; a value that the device does not have is left out, a true
0 stays 0. Keys, units and signs of what `read` returns are the document's (`schemas.document`).
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from types import ModuleType
from typing import Any, Protocol

__all__ = ["KINDS", "Reading", "Shared", "Source", "SourceError", "source_module"]

KINDS = {
    "simulated": "pusher.sources.simulated",
    "http": "pusher.sources.http",
    "modbus": "pusher.sources.modbus",
    "mqtt": "pusher.sources.mqtt",
    "homeassistant": "pusher.sources.homeassistant",
    "command": "pusher.sources.command",
}
"""Kind of a source as the configuration names it, and its module."""


class SourceError(Exception):
    """A device could not be read; the message says where, what, and what to do. Holds no secret."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What one read of a device gave."""

    values: dict[str, Any]
    """Values by the document's keys for the device's category, in the document's units and signs."""
    taken_at_s: float
    """`pusher.clock.monotonic_s()` of the oldest of them: when its request was begun or its message arrived."""


class Source(Protocol):
    """One device, opened. Calls of `read` do not overlap; the caller bounds each with the device's timeout."""

    async def read(self) -> Reading:
        """Read the device now (or give what arrived last, with its age); raises SourceError."""
        ...

    async def close(self) -> None:
        """Let go of what the source alone holds."""
        ...


@dataclass
class Shared:
    """What sources have in common: connections by address, so that a Modbus host or a broker sees one of us."""

    connections: dict[object, Any] = field(default_factory=dict)
    _closers: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    def connection(self, key: object, make: Callable[[], Any], close: Callable[[Any], Awaitable[None]]) -> Any:
        """The connection for `key`, made at its first use and closed with the rest."""
        if key not in self.connections:
            made = self.connections[key] = make()
            self._closers.append(lambda: close(made))
        return self.connections[key]

    async def close(self) -> None:
        """Close every connection, whatever each of them does."""
        closers, self._closers, self.connections = self._closers, [], {}
        for close in reversed(closers):
            with suppress(Exception):  # one connection's fault must not keep the others open
                await close()


def source_module(kind: str) -> ModuleType:
    """The module of a kind, imported at its first use; raises KeyError for a kind that does not exist."""
    return import_module(KINDS[kind])
