"""What Modbus registers mean: types, the order of words, "not available", and which are read together.

Pure. Sources: Modbus Application Protocol 1.1b3 (at most 125 registers a request) and the SunSpec Device Information
Model Specification, whose not-implemented patterns most makers use outside SunSpec too.
"""

import math
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["Span", "Table", "Type", "WordOrder", "absent_patterns", "bundled", "decoded", "size"]

Type = Literal["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
WordOrder = Literal["big", "little"]
Table = Literal["holding", "input"]

_FORMATS: dict[str, str] = {
    "int16": ">h",
    "uint16": ">H",
    "int32": ">i",
    "uint32": ">I",
    "int64": ">q",
    "uint64": ">Q",
    "float32": ">f",
    "float64": ">d",
}
_REQUEST_LIMIT = 100
"""Registers in one request: the protocol allows 125, some gateways fewer."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Registers that lie side by side."""

    table: Table
    first: int
    count: int

    @property
    def end(self) -> int:
        """The register after the last."""
        return self.first + self.count


def size(kind: Type) -> int:
    """How many registers a value of the type takes."""
    return struct.calcsize(_FORMATS[kind]) // 2


def absent_patterns(kind: Type) -> frozenset[int]:
    """The bit patterns by which devices say that they have no such value, as unsigned numbers."""
    bits = 16 * size(kind)
    if kind.startswith("float"):
        return frozenset()  # NaN says it
    return frozenset({1 << (bits - 1) if kind.startswith("int") else (1 << bits) - 1})


def decoded(words: Sequence[int], kind: Type, order: WordOrder, absent: Iterable[int]) -> int | float | None:
    """The number in `words`, None if they hold one of the `absent` patterns or NaN."""
    raw = b"".join(word.to_bytes(2, "big") for word in (words if order == "big" else reversed(words)))
    if int.from_bytes(raw, "big") in absent:
        return None
    number: int | float = struct.unpack(_FORMATS[kind], raw)[0]
    return None if math.isnan(number) else number


def bundled(spans: Iterable[Span], gap: int) -> list[Span]:
    """The fewest requests that cover `spans`, reading over at most `gap` registers that nobody asked for."""
    bundles: list[Span] = []
    for span in sorted(set(spans)):
        last = bundles[-1] if bundles else None
        if (
            last is not None
            and last.table == span.table
            and span.first <= last.end + gap
            and max(span.end, last.end) - last.first <= _REQUEST_LIMIT
        ):
            bundles[-1] = Span(last.table, last.first, max(last.end, span.end) - last.first)
        else:
            bundles.append(span)
    return bundles
