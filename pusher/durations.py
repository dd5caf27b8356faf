"""Durations as the configuration writes them (`200ms`, `5s`, `5m`, `1h`, `30d`), as seconds.

A bare number is refused, for nobody can tell whether its writer meant seconds or milliseconds. Pure: no I/O, no clock.
"""

import re
from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

__all__ = ["Duration", "duration_s"]

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_FORM = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s?(ms|s|m|h|d)")
_ASKED = 'a duration is a number with its unit, such as "200ms", "5s", "5m", "1h" or "30d"'


def duration_s(written: Any) -> float:
    """Seconds of a written duration; raises ValueError, whose message names the form, for anything else."""
    if isinstance(written, str) and (match := _FORM.fullmatch(written.strip())):
        return float(match[1]) * _SECONDS[match[2]]
    unit_lacks = isinstance(written, int | float) and not isinstance(written, bool)
    hint = f'{written} has no unit: write "{written}s" if seconds are meant' if unit_lacks else repr(written)[:40]
    raise ValueError(f"{_ASKED}; {hint}")


Duration = Annotated[
    float,
    BeforeValidator(duration_s),
    WithJsonSchema({"type": "string", "pattern": f"^{_FORM.pattern}$", "examples": ["200ms", "5s", "5m", "1h", "30d"]}),
]
"""A field of a configuration model: written as above, held as float seconds (0 or more)."""
