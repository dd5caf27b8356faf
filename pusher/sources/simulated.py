"""A house without hardware: a plausible day of sun, clouds, cooking, a battery and a hot-water boiler.

It exists for `simulate`, the demo and tests. All devices with the same options are of one house and agree at every
moment: grid + inverter (+ battery, if that is on the AC side) = load, with the document's signs. A pure function of the
seed and the simulated time: the same house lives the same day again. It must never touch the network.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import Field

from pusher.clock import monotonic_s
from pusher.sources import Reading, Shared, Source
from pusher.sources.conversion import checked
from schemas.document import LOAD, Part

__all__ = ["House", "Moment", "Options", "open_source"]

_STEP_S = 20.0
_DAY_S = 86_400.0
_SAME_MOMENT_S = 0.1
_BATTERY_EFFICIENCY = 0.95
_BOILER_LITRES_WH_PER_K = 230.0  # about 200 litres of water


class Options(Part):
    """`simulated: {}` is a house of its own; devices that are to agree have the same options."""

    seed: int = Field(1, description="which house, which clouds")
    peak_w: Annotated[float, Field(gt=0, le=100_000)] = Field(6000, description="sun at noon without clouds in W")
    base_load_w: Annotated[float, Field(ge=0, le=50_000)] = Field(350, description="what the house always takes in W")
    battery: Literal["inverter", "ac", "none"] = Field("inverter", description="where the battery is connected")
    capacity_wh: Annotated[float, Field(gt=0, le=1_000_000)] = Field(8000, description="capacity of the battery in Wh")
    soc: Annotated[float, Field(ge=0, le=100)] = Field(40, description="state of charge at the start in %")
    speed: Annotated[float, Field(gt=0, le=10_000)] = Field(1, description="simulated seconds per second")
    start: Annotated[str, Field(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")] = Field("10:00", description="time of day")


@dataclass(frozen=True, slots=True)
class Moment:
    """The house at one instant; powers in W with the document's signs, `pv_w` at the modules."""

    pv_w: float
    battery_w: float
    boiler_w: float
    load_w: float
    inverter_w: float
    grid_w: float
    soc: float
    boiler_c: float
    pv_day_wh: float
    pv_total_wh: float


class House:
    """The house of one set of options; `at` may be asked for times that only grow."""

    def __init__(self, options: Options) -> None:
        self.options = options
        hours, minutes = options.start.split(":")
        self._start_s = int(hours) * 3600.0 + int(minutes) * 60.0
        self._reached_s = self._start_s
        self._soc = options.soc
        self._boiler_c = 46.8
        self._pv_day_wh = 0.0
        self._pv_total_wh = 346_890.0

    def at(self, elapsed_s: float) -> Moment:
        """The house `elapsed_s` simulated seconds after its start."""
        time_s = self._start_s + elapsed_s
        while self._reached_s + _STEP_S <= time_s:
            self._step()
        return self._moment(time_s)

    def _step(self) -> None:
        """Let one step pass: what flows in it is what flows at its start."""
        now = self._moment(self._reached_s)
        hours = _STEP_S / 3600
        efficiency = _BATTERY_EFFICIENCY if now.battery_w < 0 else 1 / _BATTERY_EFFICIENCY
        self._soc = min(
            100.0, max(0.0, self._soc - 100 * now.battery_w * efficiency * hours / self.options.capacity_wh)
        )
        self._boiler_c += (now.boiler_w - 2.2 * (self._boiler_c - 20)) * hours / _BOILER_LITRES_WH_PER_K
        self._reached_s += _STEP_S
        self._pv_day_wh += now.pv_w * hours
        self._pv_total_wh += now.pv_w * hours
        if self._reached_s % _DAY_S < _STEP_S:
            self._pv_day_wh = 0.0

    def _moment(self, time_s: float) -> Moment:
        options = self.options
        pv_w = options.peak_w * _sun(time_s) * _clouds(options.seed, time_s)
        base_w = options.base_load_w * _habits(options.seed, time_s) + _cooking_w(options.seed, time_s)
        spare_w = pv_w - base_w
        boiler_w = min(3000.0, max(0.0, 0.4 * spare_w)) if self._boiler_c < 60 else 0.0
        battery_w = self._battery_w(spare_w - boiler_w)
        load_w = base_w + boiler_w
        behind_inverter_w = battery_w if options.battery == "inverter" else 0.0
        inverter_w = pv_w + behind_inverter_w
        return Moment(
            pv_w=pv_w,
            battery_w=battery_w,
            boiler_w=boiler_w,
            load_w=load_w,
            inverter_w=inverter_w,
            grid_w=load_w - pv_w - battery_w,
            soc=self._soc,
            boiler_c=self._boiler_c,
            pv_day_wh=self._pv_day_wh,
            pv_total_wh=self._pv_total_wh,
        )

    def _battery_w(self, spare_w: float) -> float:
        """Takes what is spare and gives what is lacking, up to a fifth of its capacity an hour, down to 5 %."""
        if self.options.battery == "none":
            return 0.0
        limit_w = self.options.capacity_wh / 5
        if spare_w > 0:
            taper = min(1.0, (100 - self._soc) / 5)  # a nearly full battery takes less and less
            return -min(0.8 * spare_w, limit_w * taper)
        return min(-spare_w, limit_w) if self._soc > 5 else 0.0


def _sun(time_s: float) -> float:
    """A clear day's sun, 0 to 1: up at six, down at eight in the evening."""
    height = math.sin(math.pi * (time_s % _DAY_S - 6 * 3600) / (14 * 3600))
    return height**1.3 if 6 * 3600 < time_s % _DAY_S < 20 * 3600 else 0.0


@lru_cache(maxsize=256)
def _chance(seed: int, what: str, nth: int) -> float:
    return random.Random(f"{seed}/{what}/{nth}").random()  # noqa: S311 - weather, not a secret


def _drifting(seed: int, what: str, time_s: float, period_s: float) -> float:
    """0 to 1, a new chance each period, with smooth ways between."""
    nth, part = divmod(time_s / period_s, 1)
    ease = (1 - math.cos(math.pi * part)) / 2
    return _chance(seed, what, int(nth)) * (1 - ease) + _chance(seed, what, int(nth) + 1) * ease


def _clouds(seed: int, time_s: float) -> float:
    weather = _drifting(seed, "weather", time_s, 3 * 3600)
    cloud = _drifting(seed, "cloud", time_s, 400)
    return 1 - 0.75 * weather * cloud


def _habits(seed: int, time_s: float) -> float:
    """The house by the hour: quiet at night, more in the morning and the evening."""
    hour = time_s % _DAY_S / 3600
    morning, evening = math.exp(-((hour - 7.5) ** 2) / 2), math.exp(-((hour - 19) ** 2) / 6)
    return 0.6 + 0.6 * morning + 1.2 * evening + 0.4 * _drifting(seed, "habits", time_s, 600)


def _cooking_w(seed: int, time_s: float) -> float:
    """Now and then a stove or a kettle, for five minutes."""
    hour = time_s % _DAY_S / 3600
    likely = 0.25 if 7 <= hour < 9 or 11 <= hour < 13 or 17 <= hour < 20 else 0.02
    return 1800.0 if _chance(seed, "stove", int(time_s // 300)) < likely else 0.0


class _Clockwork:
    """A house on the pusher's clock; what is read within a tenth of a second is one moment."""

    def __init__(self, options: Options) -> None:
        self._house = House(options)
        self._opened_s = self._taken_at_s = monotonic_s()
        self._moment = self._house.at(0)

    def now(self) -> tuple[Moment, float]:
        now_s = monotonic_s()
        if now_s - self._taken_at_s > _SAME_MOMENT_S:
            self._moment = self._house.at((now_s - self._opened_s) * self._house.options.speed)
            self._taken_at_s = now_s
        return self._moment, self._taken_at_s


@dataclass(frozen=True, slots=True)
class _Simulated:
    category: str
    clockwork: _Clockwork
    battery_connected: bool

    async def read(self) -> Reading:
        moment, taken_at_s = self.clockwork.now()
        return Reading(checked(self.category, self._values(moment)), taken_at_s)

    async def close(self) -> None:
        """Nothing is held."""

    def _values(self, now: Moment) -> dict[str, Any]:
        match self.category:
            case "inverters":
                return {
                    "inv_power_ac_w": round(now.inverter_w, 1),
                    "pv_energy_day_wh": round(now.pv_day_wh),
                    "pv_energy_total_wh": round(now.pv_total_wh),
                    "battery_connected": self.battery_connected,
                }
            case "energy_meters":
                return {"grid_power_w": round(now.grid_w, 1)}
            case "batteries":
                return {"bat_power_w": round(now.battery_w, 1), "soc": round(now.soc, 1), "mode": 0}
            case "smart_loads":
                return {"sl_power_w": round(now.boiler_w, 1), "temp": round(now.boiler_c, 1), "mode": 1}
            case _:
                return {LOAD: round(now.load_w, 1)}


def open_source(options: Options, category: str, shared: Shared) -> Source:
    """A device of the house that `options` name."""

    async def nothing_to_close(_: _Clockwork) -> None:
        pass

    key = ("simulated", options.model_dump_json())
    clockwork = shared.connection(key, lambda: _Clockwork(options), nothing_to_close)
    return _Simulated(category, clockwork, battery_connected=options.battery == "inverter")
