"""One Modbus connection for all devices on it: a TCP host, a gateway that speaks RTU over TCP, or a serial line.

The only module that knows pymodbus, whose minor releases change. One request at a time. A late answer must never be
taken for the next one's: transaction ids are compared, and after a timeout, a cancellation or anything strange the
connection is closed, so that what comes late comes to nobody. RTU frames have no number: there the line is first left
quiet for as long as an answer can still be under way. A unit that stays silent is left alone for a while if others
share the connection, for each silence costs them its whole waiting time.
"""

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

from pymodbus.client import AsyncModbusSerialClient, AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.framer import FramerType

from pusher.clock import monotonic_s
from pusher.sources import Shared, SourceError
from pusher.sources.registers import Span

__all__ = ["Answer", "Link", "ModbusRefused", "SerialLine", "TcpHost", "shared_link"]

logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # every fault is reported once, by our own errors

_QUIET_S = 1.0
_LEAVE_ALONE_S = (2.0, 30.0)
_NEVER_S = 3600.0
_WORDS = {
    1: "it does not know this kind of request (illegal function); try the other of holding and input",
    2: "it has no such register (illegal data address); some register lists count from 1, then write one less",
    3: "it does not give that many registers at once (illegal data value)",
    4: "it has failed (server device failure)",
    5: "it needs longer (acknowledge)",
    6: "it is busy (server device busy)",
    8: "its memory is damaged (memory parity error)",
    10: "the gateway finds no path to it (gateway path unavailable)",
    11: "the gateway gets no answer from it (gateway target device failed to respond); is the unit right?",
}


class ModbusRefused(SourceError):
    """The device answered with a Modbus exception, whose number is `code`."""

    def __init__(self, where: str, code: int) -> None:
        super().__init__(
            f"{where} refuses: {_WORDS.get(code, 'for a reason that the protocol does not name')} [{code}]"
        )
        self.code = code


@dataclass(frozen=True, slots=True)
class TcpHost:
    """A host that speaks Modbus TCP, or RTU frames over TCP."""

    host: str
    port: int = 502
    rtu: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class SerialLine:
    """A serial port with Modbus RTU."""

    device: str
    baudrate: int = 9600
    parity: Literal["N", "E", "O"] = "N"
    stopbits: int = 1

    def __str__(self) -> str:
        return self.device


@dataclass(frozen=True, slots=True)
class Answer:
    """Registers, and `monotonic_s()` of the moment at which their request was sent."""

    words: list[int]
    begun_at_s: float


class Link:
    """A connection that is made at its first use and again after every fault."""

    def __init__(self, address: TcpHost | SerialLine) -> None:
        self.address = address
        self._client: AsyncModbusTcpClient | AsyncModbusSerialClient | None = None
        self._lost: asyncio.Future[None] | None = None
        self._turn = asyncio.Lock()
        self._unnumbered = isinstance(address, SerialLine) or address.rtu
        self._quiet_until_s = 0.0
        self._failed_at_s = 0.0
        self._failure = ""
        self._answered: set[int] = set()
        self._left_alone: dict[int, tuple[float, float]] = {}
        """Unit to when it may be asked again and how long it was left alone."""

    async def read(self, unit: int, span: Span, within_s: float) -> Answer:
        """Read registers of a unit; raises ModbusRefused for its exceptions, SourceError for everything else."""
        asked_at_s = monotonic_s()
        self._check_silence(unit, asked_at_s)
        async with self._turn:
            if self._failed_at_s >= asked_at_s:  # the host was found dead while we waited for our turn
                raise SourceError(self._failure)
            self._check_silence(unit, asked_at_s)
            try:
                await self._connect(within_s)
                return await self._exchange(unit, span, within_s)
            except ModbusRefused:
                raise
            except BaseException:
                self._drop()
                self._quiet_until_s = monotonic_s() + _QUIET_S if self._unnumbered else 0.0
                raise

    async def close(self) -> None:
        """Close the connection."""
        self._drop()

    def _drop(self) -> None:
        client, self._client, self._lost = self._client, None, None
        if client is not None:
            with suppress(Exception):  # it may be half open; it must not keep us from the next one
                client.close()

    async def _connect(self, within_s: float) -> None:
        if self._client is not None and self._client.connected and self._lost and not self._lost.done():
            return
        self._drop()
        await asyncio.sleep(self._quiet_until_s - monotonic_s())
        self._lost = lost = asyncio.get_running_loop().create_future()
        self._client = client = self._new_client(lost)
        connected = False
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                connected = await client.connect()
        if not connected:
            self._failed_at_s = monotonic_s()
            self._failure = f"{self.address} cannot be reached"
            raise SourceError(self._failure)

    def _new_client(self, lost: asyncio.Future[None]) -> AsyncModbusTcpClient | AsyncModbusSerialClient:
        def tell(connected: bool) -> None:
            if not connected and not lost.done():
                lost.set_result(None)

        common: dict[str, Any] = {"timeout": _NEVER_S, "retries": 0, "reconnect_delay": 0, "trace_connect": tell}
        address = self.address
        client: AsyncModbusTcpClient | AsyncModbusSerialClient
        if isinstance(address, TcpHost):
            framer = FramerType.RTU if address.rtu else FramerType.SOCKET
            client = AsyncModbusTcpClient(address.host, port=address.port, framer=framer, **common)
        else:
            try:
                client = AsyncModbusSerialClient(
                    address.device,
                    baudrate=address.baudrate,
                    parity=address.parity,
                    stopbits=address.stopbits,
                    **common,
                )
            except RuntimeError as error:
                raise SourceError("a serial line needs the package pyserial; install it beside the pusher") from error
        _end_on_rubbish(client, lost)
        return client

    async def _exchange(self, unit: int, span: Span, within_s: float) -> Answer:
        client, lost = self._client, self._lost
        if client is None or lost is None:
            raise SourceError(f"{self.address} is closed")
        read = client.read_holding_registers if span.table == "holding" else client.read_input_registers
        begun_at_s = monotonic_s()
        exchange = asyncio.ensure_future(read(span.first, count=span.count, device_id=unit))
        try:
            either: set[asyncio.Future[Any]] = {exchange, lost}
            await asyncio.wait(either, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if exchange.done():
                return self._judged(exchange, unit, span, begun_at_s)
        finally:
            exchange.cancel()
        if lost.done():
            raise SourceError(f"{self.address} closed the connection, or sent what is not Modbus")
        self._leave_alone(unit)
        raise SourceError(f"{self.address} unit {unit} does not answer within {within_s:g} s")

    def _judged(self, exchange: "asyncio.Future[Any]", unit: int, span: Span, begun_at_s: float) -> Answer:
        where = f"{self.address} unit {unit} register {span.first}"
        try:
            response = exchange.result()
        except (ModbusException, OSError, ValueError) as error:
            raise SourceError(f"{where}: the exchange failed ({type(error).__name__})") from error
        self._answered.add(unit)
        self._left_alone.pop(unit, None)
        if response.isError():
            raise ModbusRefused(where, response.exception_code)
        if response.function_code != (3 if span.table == "holding" else 4) or len(response.registers) != span.count:
            raise SourceError(f"{where}: the answer is not to what was asked")
        return Answer(list(response.registers), begun_at_s)

    def _leave_alone(self, unit: int) -> None:
        if self._answered - {unit}:
            _, before_s = self._left_alone.get(unit, (0.0, 0.0))
            alone_s = min(max(2 * before_s, _LEAVE_ALONE_S[0]), _LEAVE_ALONE_S[1])
            self._left_alone[unit] = (monotonic_s() + alone_s, alone_s)

    def _check_silence(self, unit: int, now_s: float) -> None:
        until_s, _ = self._left_alone.get(unit, (0.0, 0.0))
        if now_s < until_s:
            raise SourceError(
                f"{self.address} unit {unit} has not answered; it is asked again in {until_s - now_s:.0f} s, "
                "so that the others on this connection are not held up"
            )


def _end_on_rubbish(client: AsyncModbusTcpClient | AsyncModbusSerialClient, lost: asyncio.Future[None]) -> None:
    """Let bytes that are no answer end the connection, instead of an exception in the event loop."""
    transaction = client.ctx
    handle = transaction.callback_data

    def guarded(data: bytes, addr: Any = None) -> int:
        try:
            return handle(data, addr)
        except Exception:  # noqa: BLE001 - whatever decoding rubbish raises
            if not lost.done():
                lost.set_result(None)
            return len(data)

    setattr(transaction, "callback_data", guarded)  # noqa: B010 - pymodbus offers no hook for it


def shared_link(shared: Shared, address: TcpHost | SerialLine) -> Link:
    """The connection that all devices at `address` have in common."""
    link: Link = shared.connection(address, lambda: Link(address), Link.close)
    return link
