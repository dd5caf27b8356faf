"""What travels between pusher and function: the live post, the batch of readings, and their answers.

Sizes are bounded here so that no input costs more than it is worth: 500 rows, five devices a category.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.document import (
    Battery,
    DeviceInfo,
    DeviceValues,
    EnergyMeter,
    Index,
    Inverter,
    OnlyIndex,
    Part,
    SmartLoad,
    Watts,
)
from schemas.problem import FieldError, explain
from schemas.site import Name, Settings, Site
from schemas.times import Instant

__all__ = [
    "LiveAnswer", "LivePost", "LiveValues", "MeasuredTimes", "ReadingsAnswer", "ReadingsPost", "RejectedRow", "Row",
    "Whoami",
]  # fmt: skip

ROW_LIMIT_S = 86_400


class LiveValues(Part):
    """The devices read in one tick; null withdraws a device at once."""

    inverters: dict[Index, Inverter | None] = {}
    energy_meters: dict[Index, EnergyMeter | None] = {}
    batteries: dict[OnlyIndex, Battery | None] = {}
    smart_loads: dict[OnlyIndex, SmartLoad | None] = {}
    load_power_w: Watts | None = None


class MeasuredTimes(Part):
    """A device's own time where it is not the post's `measured_at`; the shape of `device_values`."""

    inverters: dict[Index, Instant] = {}
    energy_meters: dict[Index, Instant] = {}
    batteries: dict[OnlyIndex, Instant] = {}
    smart_loads: dict[OnlyIndex, Instant] = {}
    load_power_w: Instant | None = None


class LivePost(Part):
    """`POST /api/v1/live`: the newest reading of some devices (design section 3.2)."""

    pusher: Name
    sent_at: Instant
    measured_at: Instant
    measured: MeasuredTimes | None = None
    device_values: LiveValues
    device_info: DeviceInfo | None = None


class LiveAnswer(Part):
    """Answer to a live post; `superseded`: newer readings stood in the state already for all of it."""

    status: Literal["stored", "superseded"]
    server_time: Instant
    state: Site | None = Field(None, description="with Prefer: return=representation, the site as it stands")


class Row(Part):
    """One archived row: means over `duration_s` from `measured_at` on, counters and soc as at its end."""

    measured_at: Instant
    duration_s: float = Field(ge=0, le=ROW_LIMIT_S, description="0: an instant")
    device_values: DeviceValues


class ReadingsPost(Part):
    """`POST /api/v1/readings`: 1 to 500 rows, each judged by itself with `rows`."""

    pusher: Name
    sent_at: Instant
    readings: Annotated[list[Any], Field(min_length=1, max_length=500, json_schema_extra={"items": {}})]

    def rows(self) -> tuple[list[tuple[int, Row]], list["RejectedRow"]]:
        """The rows that are valid, each with its index, and those that are not, each with its errors."""
        good: list[tuple[int, Row]] = []
        bad: list[RejectedRow] = []
        for index, raw in enumerate(self.readings):
            try:
                good.append((index, _RowInJson.model_validate({"row": raw}).row))
            except ValidationError as error:
                errors = [
                    FieldError(loc=["readings", index, *item.loc[1:]], msg=item.msg)
                    for item in explain(error, _RowInJson)
                ]
                bad.append(RejectedRow(index=index, errors=errors))
        return good, bad


class _RowInJson(BaseModel):
    """Gives a row that is not even an object an error like any other."""

    model_config = ConfigDict(strict=True)
    row: Row


class RejectedRow(Part):
    """A row that was not stored, by its index in the batch, and why."""

    index: int
    errors: list[FieldError]


class ReadingsAnswer(Part):
    """Answer to a batch of readings."""

    stored: int
    rejected: list[RejectedRow]
    server_time: Instant


class Whoami(Part):
    """Answer to `GET /api/v1/whoami`: what the token is good for."""

    site: str = Field(description="the token's site, or *")
    scope: Literal["push", "read", "fleet", "admin"]
    server_time: Instant
    settings: Settings | None = Field(None, description="the site's settings; null for a token with *")
