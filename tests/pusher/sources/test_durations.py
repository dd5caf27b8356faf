"""Durations read as written, and nothing without a unit is guessed at."""

import pytest
from pydantic import TypeAdapter, ValidationError

from pusher.durations import Duration

DURATION = TypeAdapter(Duration)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("200ms", 0.2), ("5s", 5), ("5m", 300), ("1h", 3600), ("30d", 2_592_000), ("0s", 0), ("1.5 h", 5400)],
)
def test_a_duration_is_seconds_once_read(written, seconds):
    assert DURATION.validate_python(written) == pytest.approx(seconds)


@pytest.mark.parametrize("written", [5, 0.2, "5", "5 parsecs", "-5s", "", "s", None, True, ["5s"], "5s5s", "٥s"])
def test_what_has_no_unit_is_refused_and_the_form_is_named(written):
    with pytest.raises(ValidationError, match='such as "200ms", "5s"'):
        DURATION.validate_python(written)
