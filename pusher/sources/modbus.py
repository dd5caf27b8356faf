"""Devices that speak Modbus: values in registers that the user names, or found by SunSpec discovery.

Registers that lie near each other are read in one request; a device that does not like to be read across a gap is then
read without. What a device says it does not have (0x8000 and the like) is left out, never shown as a number.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from pusher.durations import Duration
from pusher.sources import Reading, Shared, Source, SourceError
from pusher.sources.conversion import POWER_KEY
from pusher.sources.modbus_link import Answer, Link, ModbusRefused, SerialLine, TcpHost, shared_link
from pusher.sources.registers import Span, Table, Type, WordOrder, absent_patterns, bundled, decoded, size
from pusher.sources.sunspec import Catalogue, Discovered, StorageModules, check_category, discovered_keys, read_model
from pusher.sources.values import Key, Value, ValueOptions, check_keys

__all__ = ["Options", "RegisterValue", "open_source"]

_GAP = 8
_READ_TOGETHER_REFUSED = {1, 2, 3}


class RegisterValue(Value):
    """A value in one or more registers."""

    origin: ClassVar[str] = "register"
    origin_is_optional: ClassVar[bool] = True

    first: Annotated[int, Field(ge=0, le=65535)] | None = Field(
        None, alias="register", description="first register, counted from 0"
    )
    type: Type | None = Field(None, description="how the registers are to be understood")
    word_order: WordOrder = Field("big", description="little: the low word comes first")
    table: Table = Field("holding", description="holding (function 3) or input (function 4)")
    bit: Annotated[int, Field(ge=0, le=15)] | None = Field(None, description="one bit of the register, as 0 or 1")
    not_available: list[Annotated[int, Field(ge=0, lt=1 << 64)]] | None = Field(
        None, description="bit patterns that mean no value; without it the usual ones of the type, [] for none"
    )

    @model_validator(mode="after")
    def _type_with_register(self) -> Self:
        if self.first is not None and self.type is None:
            raise ValueError('a register needs its "type", such as int16 or float32')
        if self.first is not None and self.type is not None and self.first + size(self.type) > 65536:
            raise ValueError("the value does not end within the registers 0 to 65535")
        return self

    @property
    def place(self) -> int | None:
        """The first register."""
        return self.first

    @property
    def is_found(self) -> bool:
        """Whether it is left to discovery."""
        return self.is_read and self.first is None

    @property
    def span(self) -> Span | None:
        """Where it lies; None for a value that discovery is to find."""
        if self.first is None or self.type is None:
            return None
        return Span(self.table, self.first, size(self.type))

    def number_in(self, words: list[int]) -> int | float | None:
        """The number in its registers, None if they say that there is none."""
        if self.bit is not None:
            return words[-1] >> self.bit & 1
        kind = self.type or "uint16"
        absent = absent_patterns(kind) if self.not_available is None else self.not_available
        return decoded(words, kind, self.word_order, absent)


class Options(ValueOptions[RegisterValue]):
    """Where the device is, and `values` or `sunspec: true`."""

    host: Annotated[str, Field(min_length=1)] | None = Field(None, description="name or address of a TCP host")
    port: int = Field(502, ge=1, le=65535)
    framing: Literal["tcp", "rtu"] = Field("tcp", description="rtu: a gateway that passes RTU frames over TCP")
    serial: Annotated[str, Field(min_length=1)] | None = Field(None, description="serial port, such as /dev/ttyUSB0")
    baudrate: int = Field(9600, ge=300, le=4_000_000)
    parity: Literal["N", "E", "O"] = "N"
    stopbits: Literal[1, 2] = 1
    unit: int = Field(1, ge=0, le=255, description="the device's number on the connection")
    answer_within: Duration = Field(1.0, gt=0, description="how long one request may take")
    sunspec: bool = Field(default=False, description="find the registers by SunSpec discovery")
    nth: int = Field(1, ge=1, le=20, description="which of several SunSpec models of a kind")
    storage_modules: StorageModules | None = Field(None, description="the battery's inputs in SunSpec model 160")
    values: dict[Key, RegisterValue] = Field({}, description="the document's keys, each with its register")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.host is None) == (self.serial is None):
            raise ValueError('a device is at a "host" or on a "serial" port')
        if not self.sunspec:
            for name, value in [*self.inputs.items(), *self.values.items()]:
                if value.is_found:
                    raise ValueError(f'"{name}" needs a "register"; only with "sunspec: true" it can be found')
        return self

    def address(self) -> TcpHost | SerialLine:
        """The connection that the device is on."""
        if self.serial is not None:
            return SerialLine(self.serial, self.baudrate, self.parity, self.stopbits)
        return TcpHost(self.host or "", self.port, rtu=self.framing == "rtu")

    def nothing_is_read(self) -> bool:
        """Whether there is nothing to ask the device for."""
        return not self.sunspec and super().nothing_is_read()

    def fit(self, category: str) -> None:
        """Raise ValueError unless a device of `category` can have these values."""
        if self.sunspec:
            check_keys(self.values, category)
            check_category(category)
        else:
            super().fit(category)

    def completed(self, category: str) -> Self:
        """With SunSpec: these options with every value that discovery may find, as the user adjusted it."""
        if not self.sunspec:
            return self
        found = {key: RegisterValue(optional=True) for key in discovered_keys(category)}
        return self.model_copy(update={"values": found | self.values})


@dataclass(slots=True)
class _Modbus:
    options: Options
    category: str
    link: Link
    catalogue: Catalogue | None
    gap: int = field(default=_GAP)

    async def read(self) -> Reading:
        found = Discovered({}, [])
        if self.catalogue is not None:
            options = self.options
            found = await read_model(self.catalogue, self.category, options.nth, options.storage_modules)
            power = POWER_KEY[self.category]
            if power not in found.values and options.values[power].is_found:
                raise SourceError(
                    f"{self.catalogue}: SunSpec model 124 gives the state of charge but no power; name storage_modules "
                    f"(the battery's inputs in model 160) or a register for {power}"
                )
        answers = await self._registers()
        values = self.options.assemble(self.category, lambda name, value: self._raw(name, value, found, answers))
        begun_at_s = found.begun_at_s + [answer.begun_at_s for answer in answers.values()]
        return Reading(values, min(begun_at_s))

    async def close(self) -> None:
        """The connection is shared."""

    async def _registers(self) -> dict[Span, Answer]:
        spans = [span for _, value in self.options.readings() if (span := value.span)]
        while True:
            bundles = bundled(spans, self.gap)
            try:
                options = self.options
                return {bundle: await self.link.read(options.unit, bundle, options.answer_within) for bundle in bundles}
            except ModbusRefused as refused:
                if refused.code not in _READ_TOGETHER_REFUSED or self.gap < 0 or bundles == sorted(set(spans)):
                    raise
                self.gap = 0 if self.gap > 0 else -1  # first without gaps, then each value for itself

    def _raw(self, name: str, value: RegisterValue, found: Discovered, answers: dict[Span, Answer]) -> Any:
        span = value.span
        if span is None:
            return found.values.get(name)
        for bundle, answer in answers.items():
            if bundle.table == span.table and bundle.first <= span.first and span.end <= bundle.end:
                start = span.first - bundle.first
                return value.number_in(answer.words[start : start + span.count])
        return None


def open_source(options: Options, category: str, shared: Shared) -> Source:
    """Open a device of `category`; raises ValueError if the values are not ones of such a device."""
    options.fit(category)
    link = shared_link(shared, options.address())
    catalogue = Catalogue.shared(shared, link, options.unit, options.answer_within) if options.sunspec else None
    return _Modbus(options.completed(category), category, link, catalogue)
