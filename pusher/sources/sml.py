"""SML telegrams of electricity meters, as `{"1-0:16.7.0": -542.0, ...}`: OBIS code to number in the code's unit.

Only what the pusher needs: the readings of a telegram whose checksum is right, so that a torn one never shows a value.
Pure. Sources: BSI TR-03109-1, annex IV (Smart Message Language 1.04); libsml (GitHub volkszaehler/libsml) for meters
whose checksum is CRC-16/KERMIT instead of X.25.
"""

from typing import Any

__all__ = ["readings_in"]

_ESCAPE = b"\x1b\x1b\x1b\x1b"
_START = _ESCAPE + b"\x01\x01\x01\x01"
_DEPTH_LIMIT = 12
_OCTETS, _BOOL, _INT, _UINT, _LIST = 0, 4, 5, 6, 7


def readings_in(telegram: bytes) -> dict[str, float]:
    """The readings of the first whole telegram in `telegram`; raises ValueError if there is none."""
    start = telegram.find(_START)
    end = telegram.find(_ESCAPE + b"\x1a", start + len(_START))
    if start < 0 or end < 0 or len(telegram) < end + 8:
        raise ValueError("no whole SML telegram")
    checksum = int.from_bytes(telegram[end + 6 : end + 8], "little")
    covered = telegram[start : end + 6]
    if checksum not in (_crc16(covered, 0xFFFF) ^ 0xFFFF, _crc16(covered, 0)):
        raise ValueError("an SML telegram whose checksum is wrong")
    body = telegram[start + len(_START) : end].replace(_ESCAPE + _ESCAPE, _ESCAPE)
    readings: dict[str, float] = {}
    at = 0
    while at < len(body):
        if body[at] == 0:  # padding, or the end of a message
            at += 1
            continue
        item, at = _item(body, at, 0)
        _collect(item, readings)
    return readings


def _crc16(covered: bytes, crc: int) -> int:
    """The common part of CRC-16/X.25 and CRC-16/KERMIT."""
    for byte in covered:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x8408 if crc & 1 else 0)
    return crc


def _item(body: bytes, at: int, depth: int) -> tuple[Any, int]:
    """The item at `at` and where the next one begins; raises ValueError if it does not end within the body."""
    if depth > _DEPTH_LIMIT or at >= len(body):
        raise ValueError("an SML telegram that ends too early")
    first = at
    kind, length = body[at] >> 4 & 7, body[at] & 15
    while body[at] & 0x80:
        at += 1
        if at >= len(body):
            raise ValueError("an SML telegram that ends too early")
        length = length << 4 | body[at] & 15
    at += 1
    if kind == _LIST:
        items = []
        for _ in range(length):
            item, at = _item(body, at, depth + 1)
            items.append(item)
        return items, at
    end = first + max(length, 1)
    if end > len(body) or end < at:
        raise ValueError("an SML telegram that ends too early")
    raw = body[at:end]
    if kind in (_INT, _UINT):
        return int.from_bytes(raw, "big", signed=kind == _INT), end
    if kind not in (_OCTETS, _BOOL):
        raise ValueError(f"an SML item of the unknown kind {kind}")
    return raw, end


def _collect(item: Any, readings: dict[str, float]) -> None:
    """Put the list entries (name, status, time, unit, scaler, value, signature) within `item` into `readings`."""
    if not isinstance(item, list):
        return
    if len(item) == 7 and isinstance(item[0], bytes) and len(item[0]) == 6 and isinstance(item[5], int):
        a, b, c, d, e, _ = item[0]
        scaler = item[4] if isinstance(item[4], int) else 0
        if -10 <= scaler <= 10:
            readings[f"{a}-{b}:{c}.{d}.{e}"] = item[5] * 10**scaler if scaler >= 0 else item[5] / 10**-scaler
        return
    for part in item:
        _collect(part, readings)
