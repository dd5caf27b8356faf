"""How what a device sends becomes a value of the document.

Everything ends as a value that the document takes or as a SourceError that names the value and what came instead.
Text is never guessed at, NaN and infinity never pass, a missing value never becomes 0. Pure.
"""

import math
import re
from typing import Any

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import ValidationError

from pusher.sources import SourceError
from schemas.document import LOAD, Battery, DeviceValues, EnergyMeter, Inverter, Part, SmartLoad

__all__ = ["KEYS", "POWER_KEY", "checked", "converted", "look_up", "number", "shown"]

_MODELS: dict[str, type[Part]] = {
    "inverters": Inverter,
    "energy_meters": EnergyMeter,
    "batteries": Battery,
    "smart_loads": SmartLoad,
}
KEYS = {category: tuple(model.model_fields) for category, model in _MODELS.items()} | {LOAD: (LOAD,)}
"""The document's keys for a device of each category."""
POWER_KEY = {category: keys[0] for category, keys in KEYS.items()}
"""The one key that a device of each category must have: its power."""

_FLAGS = frozenset({"battery_connected"})
_CODES = frozenset({"mode"})
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)
_FLAG_WORDS = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}


def shown(raw: Any) -> str:
    """What came, short and harmless enough for an error message or a terminal."""
    text = ascii(raw[:60] if isinstance(raw, str | bytes | list) else raw)
    return text if len(text) <= 60 else f"{text[:57]}..."


def look_up(path: str, document: Any) -> Any:
    """What the JMESPath finds in `document`, None if nothing; raises SourceError if it cannot be applied to it."""
    try:
        return jmespath.search(path, document)
    except (JMESPathError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise SourceError(f'path "{path}" does not fit what came: {reason}') from error


def number(name: str, raw: Any, *, scale: float = 1, offset: float = 0) -> float:
    """`raw * scale + offset`; raises SourceError unless `raw` is a finite number or text that is nothing but one."""
    if isinstance(raw, str) and _NUMBER.fullmatch(raw.strip()):
        raw = float(raw)
    if isinstance(raw, bool) or not isinstance(raw, int | float):
        hint = ' (only a plain number such as "12.5" is read: no unit, no comma)' if isinstance(raw, str) else ""
        raise SourceError(f"{name}: a number was expected, {shown(raw)} came{hint}")
    try:
        result = float(raw) * scale + offset
    except OverflowError:
        result = math.inf
    if not math.isfinite(result):
        raise SourceError(f"{name}: a finite number was expected, {shown(raw)} came")
    return _tidy(result)


def _tidy(result: float) -> float:
    """Without the dust that binary scaling leaves (78.2, not 78.2000000001): the document's finest unit is a tenth."""
    rounded = round(result, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def converted(key: str, raw: Any, *, scale: float = 1, offset: float = 0) -> Any:
    """`raw` as what the document has under `key`: a truth, a whole code, or a number; raises SourceError."""
    if key in _FLAGS:
        word = str(raw).strip().lower() if isinstance(raw, bool | int | str) else ""
        if word not in _FLAG_WORDS:
            raise SourceError(f"{key}: true or false was expected, {shown(raw)} came")
        return _FLAG_WORDS[word]
    result = number(key, raw, scale=scale, offset=offset)
    if key in _CODES and not isinstance(result, int):
        raise SourceError(f"{key}: a whole number was expected, {shown(raw)} came")
    return result


def checked(category: str, values: dict[str, Any]) -> dict[str, Any]:
    """The values, if the document takes them for a device of `category`; else SourceError, which says which and why."""
    if POWER_KEY[category] not in values:
        raise SourceError(f"{POWER_KEY[category]}: the device does not give it now")
    try:
        _MODELS.get(category, DeviceValues).model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise SourceError(f"{name}: the device says {shown(first['input'])}; {first['msg']}") from error
    return values
