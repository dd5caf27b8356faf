"""SunSpec: which standard models a Modbus device has, where they lie, and what they say.

A SunSpec device writes "SunS" at register 40000, 0 or 50000, then one model after the other: number, length, points.
The layouts below are those of the SunSpec Alliance's public model definitions (repository sunspec/models,
json/model_101.json and so on), offsets counted from the model's number. A point is scaled by 10 to its scale factor.

Signs: inverters + is generation. The definitions name no sign for the power of meters and of battery model 802: taken
as the document's (+ consumption, + discharge); a device that means the opposite gets `{grid_power_w: {scale: -1}}`.
Model 124 has a battery's state of charge but no power: that comes from model 160 (`storage_modules`) or a register.
"""

import asyncio
from dataclasses import dataclass, field

from pydantic import Field

from pusher.sources import Shared, SourceError
from pusher.sources.modbus_link import Link, ModbusRefused
from pusher.sources.registers import Span, Type, absent_patterns, decoded, size
from schemas.document import Part

__all__ = ["Catalogue", "Discovered", "StorageModules", "check_category", "discovered_keys", "read_model"]

_BASES = (40000, 0, 50000)
_MARK = [0x5375, 0x6E53]  # "SunS"
_END = 0xFFFF
_MODEL_LIMIT = 64
_ASLEEP = {1, 2, 8}  # operating states off, sleeping, standby: an inverter that then has no power gives 0 W
_SCALE_FACTORS = range(-10, 11)


@dataclass(frozen=True, slots=True)
class _Point:
    offset: int
    type: Type
    scale_factor: int | None = None
    counter: bool = False
    """An accumulator, which says with 0 that it does not count."""

    @property
    def end(self) -> int:
        return max(self.offset + size(self.type), (self.scale_factor or 0) + 1)


@dataclass(frozen=True, slots=True)
class _Layout:
    category: str
    points: dict[str, _Point]
    state: int | None = None

    @property
    def end(self) -> int:
        return max([*(point.end for point in self.points.values()), (self.state or 0) + 1])


_POWER = "inv_power_ac_w"
_INVERTER = _Layout(
    "inverters",
    {_POWER: _Point(14, "int16", 15), "pv_energy_total_wh": _Point(24, "uint32", 26, counter=True)},
    state=38,
)
_FLOAT_INVERTER = _Layout(
    "inverters",
    {_POWER: _Point(22, "float32"), "pv_energy_total_wh": _Point(32, "float32", counter=True)},
    state=48,
)
_METER = _Layout("energy_meters", {"grid_power_w": _Point(18, "int16", 22)})
_FLOAT_METER = _Layout("energy_meters", {"grid_power_w": _Point(28, "float32")})
_STORAGE = _Layout("batteries", {"soc": _Point(8, "uint16", 22)})
_BATTERY = _Layout("batteries", {"bat_power_w": _Point(47, "int16", 63), "soc": _Point(11, "uint16", 56)})
_LAYOUTS: dict[int, _Layout] = {
    **dict.fromkeys((101, 102, 103), _INVERTER),
    **dict.fromkeys((111, 112, 113), _FLOAT_INVERTER),
    **dict.fromkeys((201, 202, 203, 204), _METER),
    **dict.fromkeys((211, 212, 213, 214), _FLOAT_METER),
    802: _BATTERY,
    124: _STORAGE,
}
_MPPT = 160


class StorageModules(Part):
    """Which inputs of model 160 charge and discharge the battery, counted from 1."""

    charge: int = Field(ge=1, le=5)
    discharge: int = Field(ge=1, le=5)


@dataclass(frozen=True, slots=True)
class Model:
    """A model that a device has: its number, the register of that number, and the length that follows."""

    number: int
    address: int
    length: int


@dataclass(frozen=True, slots=True)
class Discovered:
    """Values by the document's keys (None: not implemented) and when their requests were sent."""

    values: dict[str, float | None]
    begun_at_s: list[float] = field(default_factory=list)


def discovered_keys(category: str) -> list[str]:
    """The document's keys that models of a category may give."""
    return sorted({key for layout in _LAYOUTS.values() if layout.category == category for key in layout.points})


def check_category(category: str) -> None:
    """Raise ValueError for a category that SunSpec has no models for."""
    if not discovered_keys(category):
        raise ValueError(f'SunSpec has no model for {category}; name the registers instead of "sunspec: true"')


class Catalogue:
    """The models of one unit, found once and shared by all devices in it; a search that is cut short goes on later."""

    def __init__(self, link: Link, unit: int, within_s: float) -> None:
        self.link, self.unit, self._within_s = link, unit, within_s
        self._searching = asyncio.Lock()
        self._bases = list(_BASES)
        self._models: list[Model] = []
        self._next: int | None = None
        self._complete = False

    @classmethod
    def shared(cls, shared: Shared, link: Link, unit: int, within_s: float) -> "Catalogue":
        """The catalogue of a unit."""

        async def nothing_to_close(_: object) -> None:
            pass

        key = ("sunspec", link.address, unit)
        catalogue: Catalogue = shared.connection(key, lambda: cls(link, unit, within_s), nothing_to_close)
        return catalogue

    def __str__(self) -> str:
        return f"{self.link.address} unit {self.unit}"

    def forget(self) -> None:
        """Search again at the next read: the device has changed."""
        self._bases, self._models, self._next, self._complete = list(_BASES), [], None, False

    async def registers(self, first: int, count: int) -> tuple[list[int], float]:
        """Holding registers of the unit and when they were asked for."""
        answer = await self.link.read(self.unit, Span("holding", first, count), self._within_s)
        return answer.words, answer.begun_at_s

    async def models(self) -> list[Model]:
        """All models; raises SourceError if this is no SunSpec device."""
        async with self._searching:
            if self._next is None:
                self._next = await self._begin()
            while not self._complete:
                await self._step(self._next)
        return self._models

    async def _begin(self) -> int:
        while self._bases:
            base = self._bases[0]
            try:
                words, _ = await self.registers(base, 2)
            except ModbusRefused:
                words = []
            if words == _MARK:
                return base + 2
            self._bases.pop(0)
        self.forget()
        raise SourceError(
            f'{self} is no SunSpec device: no "SunS" at {", ".join(map(str, _BASES))}; is it switched on?'
        )

    async def _step(self, address: int) -> None:
        try:
            (number, length), _ = await self.registers(address, 2)
        except ModbusRefused:
            number, length = _END, 0
        if number in (0, _END) or len(self._models) == _MODEL_LIMIT:
            self._complete = True
            return
        self._models.append(Model(number, address, length))
        self._next = address + 2 + length
        if self._next > 65534:
            self._complete = True


async def read_model(catalogue: Catalogue, category: str, nth: int, modules: StorageModules | None) -> Discovered:
    """The values of the nth model of a category; raises SourceError if there is none."""
    models = await catalogue.models()
    model = _chosen(catalogue, models, category, nth)
    layout = _LAYOUTS[model.number]
    words, begun_at_s = await _block(catalogue, model, layout.end)
    values = {key: _value(catalogue, words, point) for key, point in layout.points.items()}
    if layout.state is not None and values[_POWER] is None and words[layout.state] in _ASLEEP:
        values[_POWER] = 0
    begun = [begun_at_s]
    if model.number == 124 and modules is not None:
        values["bat_power_w"], mppt_begun_at_s = await _storage_power(catalogue, models, modules)
        begun.append(mppt_begun_at_s)
    return Discovered(values, begun)


def _chosen(catalogue: Catalogue, models: list[Model], category: str, nth: int) -> Model:
    fitting = [model for model in models if model.number in _LAYOUTS and _LAYOUTS[model.number].category == category]
    if category == "batteries":
        fitting = [model for model in fitting if model.number == 802] or fitting
    if len(fitting) < nth:
        there = ", ".join(str(model.number) for model in models) or "none"
        wanted = ", ".join(str(number) for number, layout in _LAYOUTS.items() if layout.category == category)
        which = "" if nth == 1 else f"{nth} times "
        raise SourceError(f"{catalogue} has no SunSpec model for {category} {which}({wanted}); it has: {there}")
    return fitting[nth - 1]


async def _block(catalogue: Catalogue, model: Model, end: int) -> tuple[list[int], float]:
    """The model's first registers; raises SourceError if it is not, or no longer, where it was found."""
    if model.length + 2 < end:
        raise SourceError(f"{catalogue}: SunSpec model {model.number} is shorter than its definition")
    words, begun_at_s = await catalogue.registers(model.address, end)
    if words[:2] != [model.number, model.length]:
        catalogue.forget()
        raise SourceError(f"{catalogue}: SunSpec model {model.number} has moved; the models are searched for again")
    return words, begun_at_s


def _value(catalogue: Catalogue, words: list[int], point: _Point) -> float | None:
    raw = decoded(words[point.offset : point.offset + size(point.type)], point.type, "big", absent_patterns(point.type))
    if raw is None or (point.counter and raw == 0):
        return None
    return raw if point.scale_factor is None else _scaled(catalogue, raw, words[point.scale_factor])


def _scaled(catalogue: Catalogue, raw: float, word: int) -> float | None:
    """`raw` times ten to the power of a scale factor; None if that is not implemented."""
    power = decoded([word], "int16", "big", absent_patterns("int16"))
    if power is None:
        return None
    if power not in _SCALE_FACTORS:
        raise SourceError(f"{catalogue}: {power} is no SunSpec scale factor (-10 to 10)")
    return raw * 10**power if power >= 0 else raw / 10**-power


async def _storage_power(
    catalogue: Catalogue, models: list[Model], modules: StorageModules
) -> tuple[float | None, float]:
    """What model 160 says of the battery's inputs: discharging less charging."""
    mppt = next((model for model in models if model.number == _MPPT), None)
    if mppt is None:
        raise SourceError(f"{catalogue} has no SunSpec model 160, which storage_modules needs")

    def place(module: int) -> int:
        return 10 + 20 * (module - 1) + 11

    words, begun_at_s = await _block(catalogue, mppt, max(place(modules.charge), place(modules.discharge)) + 1)
    powers = [
        _value(catalogue, words, _Point(place(module), "uint16", 4)) for module in (modules.discharge, modules.charge)
    ]
    discharging, charging = powers
    return (None if discharging is None or charging is None else discharging - charging), begun_at_s
