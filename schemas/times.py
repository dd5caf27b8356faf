"""RFC 3339 times: the only way a time enters or leaves a document.

A time that cannot be read is an error, never "now"; a time without an offset says nothing and is refused.
Inside, every time is a `datetime` in UTC with microseconds; this module reads no clock.
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, WithJsonSchema

__all__ = ["CLOCK_TOLERANCE", "Instant", "format_time", "parse_time"]

CLOCK_TOLERANCE = timedelta(seconds=60)
"""How far a sender's clock may be off, and how far ahead a reading's time may lie (design section 5, Clock)."""

_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,12})?([Zz]|[+-]\d\d:\d\d)?", re.ASCII)
_EXAMPLE = 'such as "2026-11-22T12:00:00Z" or "2026-11-22T13:00:00+01:00"'


def parse_time(text: object) -> datetime:
    """Read an RFC 3339 time with an offset; raises ValueError that says what is wrong with it."""
    if isinstance(text, datetime):
        if text.tzinfo is None:
            raise ValueError("the time has no offset from UTC")
        return text.astimezone(UTC)
    if not isinstance(text, str) or len(text) > 40 or not (match := _RFC3339.fullmatch(text)):
        raise ValueError(f"a time is written as in RFC 3339, {_EXAMPLE}")
    if match[2] is None:
        raise ValueError(f"the time has no offset from UTC; write it {_EXAMPLE}")
    fraction = (match[1] or "")[:7]  # beyond microseconds: cut, so that no time grows newer
    try:
        return datetime.fromisoformat(text[:19].upper() + fraction + match[2].upper()).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"no such time: {error}") from None


def format_time(time: datetime) -> str:
    """Write a time as RFC 3339 in UTC, with as many digits of the second as it has (0, 3 or 6)."""
    if time.microsecond == 0:
        precision = "seconds"
    else:
        precision = "milliseconds" if time.microsecond % 1000 == 0 else "microseconds"
    return time.astimezone(UTC).replace(tzinfo=None).isoformat(timespec=precision) + "Z"


Instant = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "description": "RFC 3339 with an offset"}),
]
"""A field that holds a time: RFC 3339 with an offset outside, `datetime` in UTC inside."""
