"""The wallbox's two documents, `device_values` and `device_info`, as the manufacturer's Custom API 1.2 has them.

These models bound every number and every key that comes in. Signs are the document's: grid + is consumption,
- feed-in; battery + is discharge, - charge. A key that a device does not deliver is left out, never 0.
"""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, StringConstraints

__all__ = [
    "CATEGORIES", "LOAD", "Battery", "BatteryInfo", "DeviceInfo", "DeviceValues", "EnergyMeter", "EnergyMeterInfo",
    "Inverter", "InverterInfo", "Part", "SmartLoad", "SmartLoadInfo", "flat", "nested",
]  # fmt: skip

CATEGORIES = ("inverters", "energy_meters", "batteries", "smart_loads")
"""The categories of the document, in its order."""

LOAD = "load_power_w"
"""The house load: a key of its own in the document, and one device like any other to the rules."""

POWER_LIMIT_W = 1_000_000
ENERGY_LIMIT_WH = 1_000_000_000_000


class Part(BaseModel):
    """Base of every model: no unknown key, no coercion of types, no NaN, no change after it is made.

    A model's validator is built when it is first needed: neither a start of the function nor the pusher needs all.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False, defer_build=True)


def _whole_if_it_is(number: float) -> float:
    """Keep 2225 as 2225, not 2225.0, so that documents come out as they went in."""
    return int(number) if number == int(number) else number


_as_it_is = (AfterValidator(_whole_if_it_is), PlainSerializer(lambda number: number))

Watts = Annotated[float, Field(ge=-POWER_LIMIT_W, le=POWER_LIMIT_W, json_schema_extra={"unit": "W"}), *_as_it_is]
WattHours = Annotated[float, Field(ge=0, le=ENERGY_LIMIT_WH, json_schema_extra={"unit": "Wh"}), *_as_it_is]
Percent = Annotated[float, Field(ge=0, le=100, json_schema_extra={"unit": "%"}), *_as_it_is]
Celsius = Annotated[float, Field(ge=-273.15, le=2000, json_schema_extra={"unit": "°C"}), *_as_it_is]
Code = Annotated[int, Field(ge=-(2**31), lt=2**31)]
Text = Annotated[str, StringConstraints(max_length=200)]

Index = Literal["0", "1", "2", "3", "4"]
OnlyIndex = Literal["0"]


class Inverter(Part):
    """What an inverter reads."""

    inv_power_ac_w: Watts = Field(description="AC power in W; net of the battery if battery_connected")
    pv_energy_day_wh: WattHours | None = Field(None, description="energy generated today in Wh")
    pv_energy_total_wh: WattHours | None = Field(None, description="energy generated since installation in Wh")
    battery_connected: bool | None = Field(None, description="whether the configured battery is behind this inverter")


class EnergyMeter(Part):
    """What an energy meter reads."""

    grid_power_w: Watts = Field(description="power in W: + is consumption, - is feed-in")


class Battery(Part):
    """What a battery reads."""

    bat_power_w: Watts = Field(description="power in W: + is discharge, - is charge")
    soc: Percent | None = Field(None, description="state of charge in %")
    mode: Code | None = Field(None, description="mode; 0 is normal, other codes are passed through")


class SmartLoad(Part):
    """What a smart load reads; its power is inside the house load."""

    sl_power_w: Watts = Field(description="power in W")
    temp: Celsius | None = Field(None, description="temperature in °C")
    mode: Code | None = Field(None, description="mode, passed through")


class DeviceValues(Part):
    """The values of a site's devices by category and index; `{}` says nothing of any device."""

    inverters: dict[Index, Inverter] = Field({}, description='inverters "0" to "4"')
    energy_meters: dict[Index, EnergyMeter] = Field({}, description='energy meters "0" to "4"')
    batteries: dict[OnlyIndex, Battery] = Field({}, description='one battery, "0"')
    smart_loads: dict[OnlyIndex, SmartLoad] = Field({}, description='one smart load, "0"')
    load_power_w: Watts | None = Field(None, description="power of the whole house in W")


class _Info(Part):
    name: Text | None = Field(None, description="name shown in the app")
    model: Text | None = Field(None, description="model")
    serial: Text | None = Field(None, description="serial number")


class InverterInfo(_Info):
    """What an inverter is."""

    max_dc_w: Watts | None = Field(None, description="connected DC power in W")
    max_ac_w: Watts | None = Field(None, description="AC power in W")


class EnergyMeterInfo(_Info):
    """What an energy meter is."""

    location: Annotated[int, Field(ge=0, le=5)] | None = Field(
        None,
        description="0 unknown, 1 grid connection, 2 load, 3 generator, 4 generator with battery, 5 sub-device",
    )


class BatteryInfo(_Info):
    """What a battery is."""

    capacity_wh: WattHours | None = Field(None, description="capacity in Wh")


class SmartLoadInfo(_Info):
    """What a smart load is."""


class DeviceInfo(Part):
    """The description of a site's devices by category and index, "0" to "4" in each."""

    inverters: dict[Index, InverterInfo] = {}
    energy_meters: dict[Index, EnergyMeterInfo] = {}
    batteries: dict[Index, BatteryInfo] = {}
    smart_loads: dict[Index, SmartLoadInfo] = {}


def flat(document: Part) -> dict[str, Any]:
    """Spread a document by device: `{"inverters/0": {...}, "load_power_w": {"load_power_w": 1683}}`.

    A device that is given as null stays None; keys within a device that are null are left out. The same form
    serves values, info and the times of `measured` (whose leaves are times).
    """
    devices: dict[str, Any] = {}
    for category in CATEGORIES:
        for index, device in getattr(document, category).items():
            devices[f"{category}/{index}"] = (
                device.model_dump(exclude_none=True) if isinstance(device, BaseModel) else device
            )
    if LOAD in document.model_fields_set:
        load = getattr(document, LOAD)
        devices[LOAD] = {LOAD: load} if isinstance(load, int | float) else load
    return devices


def nested(devices: dict[str, Any]) -> dict[str, Any]:
    """Put devices spread by `flat` together again as a document; categories without a device are left out."""
    document: dict[str, Any] = {}
    for category in CATEGORIES:
        members = {key.partition("/")[2]: devices[key] for key in sorted(devices) if key.partition("/")[0] == category}
        if members:
            document[category] = members
    if LOAD in devices:
        load = devices[LOAD]
        document[LOAD] = load[LOAD] if isinstance(load, dict) else load
    return document
