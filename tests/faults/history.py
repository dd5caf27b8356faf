"""A history: what clients asked of the service, when, and what they were told, as lines of JSON.

The first line is the header; then events (a fault begins, an RPC was spoiled) and operations follow in the order in
which they ended. Times of the run (`..._s`) are seconds on the clock of the client process since the run began; times
of the product (`..._ms`) are UTC milliseconds. A history says nothing of what is right: that is the checker's.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Event", "Header", "History", "Operation", "Violation", "read_history", "write_history"]


@dataclass
class Header:
    """What was run."""

    seed: int
    fault: str
    store: str
    stale_after_s: float = 60
    clocks_s: list[float] = field(default_factory=lambda: [0.0, 0.0])
    """How far the clock of each instance is ahead of the clients'."""
    loses_data: bool = False
    """The store itself forgets everything in this fault, by its own design."""
    stops_instances: bool = False
    """Instances end and start in this fault, so that a request may go without an answer."""
    load_s: list[float] = field(default_factory=list)
    """Seconds of load before, in and after the fault, from which the same plan is made again."""


@dataclass
class Event:
    """Something that happened to the service."""

    event: str
    at_s: float
    detail: str = ""


@dataclass
class Operation:
    """One request, or one look into the store (`archive`). `status` None: no answer."""

    op: str
    client: str
    instance: int
    invoked_s: float
    completed_s: float
    now_ms: int
    """The clients' wall clock when it was invoked."""
    status: int | None
    problem: str = ""
    """Type of the problem document; without an answer: why there is none."""
    retry_after: bool = False
    final: bool = False
    """Made when everything had come to rest."""
    answer: str = ""
    """live: `stored` or `superseded`."""
    repeat: bool = False
    """live: the very same post was sent before."""
    server_ms: int | None = None
    sent_ms: int | None = None
    devices: dict[str, list[Any]] = field(default_factory=dict)
    """live: per device its time in ms and its value, None if it is withdrawn. No two posts give the same value."""
    described: dict[str, str] = field(default_factory=dict)
    """live: names given to devices; a device is always given the same."""
    rows: list[list[int]] = field(default_factory=list)
    """readings: [measured_ms, value] each."""
    stored: int = 0
    span_ms: list[int] = field(default_factory=list)
    seen: Any = None
    """values: {device: value}. site: {device: [value, measured_ms, withdrawn]}. history: {measured_ms: value}.
    days: {day: load_wh}. info: {device: name}. archive: [[pusher, measured_ms, value], ...]."""

    def __str__(self) -> str:
        times = f"{self.invoked_s:.3f} to {self.completed_s:.3f} s"
        return f"{self.op} by {self.client} at instance {self.instance} ({times})"

    @property
    def pusher(self) -> str:
        """The pusher in whose name the client sends."""
        return self.client.partition("/")[0]

    @property
    def refused(self) -> bool:
        """Whether the service said that it never takes this; what was sent must then never be seen."""
        return self.status is not None and 400 <= self.status < 500 and self.status != 429

    @property
    def acknowledged(self) -> bool:
        """Whether the service said that it is done."""
        return self.status == 200


@dataclass
class History:
    """A whole run."""

    header: Header
    events: list[Event] = field(default_factory=list)
    operations: list[Operation] = field(default_factory=list)

    @property
    def counted_from_s(self) -> float:
        """From when on what is acknowledged counts: from the beginning, but where the store itself forgets."""
        return max((it.at_s for it in self.events if it.event == "data lost"), default=float("-inf"))


@dataclass(frozen=True)
class Violation:
    """A promise that a history breaks."""

    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


def write_history(history: History, path: Path) -> None:
    """Write it as lines of JSON."""
    parts: Iterable[Any] = (history.header, *sorted((*history.events, *history.operations), key=_end_s))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(_short(part)) + "\n" for part in parts), encoding="utf-8")


def read_history(path: Path) -> History:
    """Read what was written; raises ValueError for a file that holds no history."""
    first, *rest = path.read_text(encoding="utf-8").splitlines() or [""]
    try:
        history = History(Header(**json.loads(first)))
    except (ValueError, TypeError):
        raise ValueError(f"{path}:1: this is no history; one is made with --out {path}") from None
    for number, text in enumerate(rest, 2):
        try:
            line = json.loads(text)
            if "event" in line:
                history.events.append(Event(**line))
            else:
                history.operations.append(Operation(**line))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}:{number}: {error}") from None
    for operation in history.operations:  # JSON knows only texts as keys
        if operation.op == "history" and operation.seen:
            operation.seen = {int(ms): value for ms, value in operation.seen.items()}
    return history


def _end_s(part: Event | Operation) -> float:
    return part.at_s if isinstance(part, Event) else part.completed_s


def _short(part: Header | Event | Operation) -> dict[str, Any]:
    if isinstance(part, Header):
        return dataclasses.asdict(part)
    default = type(part)("", 0) if isinstance(part, Event) else Operation("", "", 0, 0, 0, 0, -1)
    whole, plain = dataclasses.asdict(part), dataclasses.asdict(default)
    needed = {"event", "at_s", "op", "client", "instance", "invoked_s", "completed_s", "now_ms", "status"}
    return {name: value for name, value in whole.items() if name in needed or value != plain[name]}
