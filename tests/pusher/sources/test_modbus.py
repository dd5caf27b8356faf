"""Devices over Modbus, on pymodbus's own server: registers become values; no late, false or absent one ever does."""

import asyncio
import os
import random
import struct
import tty
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pymodbus.framer import FramerRTU

from pusher.sources import Shared, SourceError
from pusher.sources.modbus import Options, open_source
from pusher.sources.registers import Span, absent_patterns, bundled, decoded, size
from tests.pusher.sources.servers import free_port, modbus_device, need_module, words

BATTERY = {
    "bat_power_w": {"register": 40083, "type": "int16", "scale": -1},
    "soc": {"register": 40090, "type": "uint16", "scale": 0.1},
}


@pytest.fixture
async def shared():
    shared = Shared()
    yield shared
    await shared.close()


def device_options(device, values, **options):
    return Options.model_validate({"host": device.host, "port": device.port, "values": values} | options)


def opened(device, values, shared, category="batteries", **options):
    return open_source(device_options(device, values, **options), category, shared)


def meter(register, kind="int16", **more):
    return {"grid_power_w": {"register": register, "type": kind} | more}


async def test_the_designs_example_charges_negative_and_reads_tenths_of_a_percent(shared):
    registers = dict.fromkeys(range(40083, 40091), 0) | {40083: 749, 40090: 782}
    async with modbus_device(registers) as device:
        source = opened(device, BATTERY, shared)
        first = await source.read()
        assert first.values == {"bat_power_w": -749, "soc": 78.2}
        device.holding()[40083] = words(-120)[0]
        second = await source.read()
        assert second.values == {"bat_power_w": 120, "soc": 78.2}
        assert first.taken_at_s < second.taken_at_s
        assert device.requests == [(1, 3, 40083, 8)] * 2  # both values in one request


async def test_input_registers_and_other_units_are_read_where_they_are(shared):
    units = {
        1: {"holding": {5: 1}, "input": {5: 2}},
        7: {"holding": {5: 3}, "input": {5: 4}},
    }
    async with modbus_device(units=units) as device:
        readings = {
            (unit, table): (
                await opened(device, meter(5, table=table), shared, "energy_meters", unit=unit).read()
            ).values["grid_power_w"]
            for unit in units
            for table in ("holding", "input")
        }
    assert readings == {(1, "holding"): 1, (1, "input"): 2, (7, "holding"): 3, (7, "input"): 4}
    assert len(shared.connections) == 1


@pytest.mark.parametrize(
    ("kind", "number"),
    [
        ("int16", -542),
        ("uint16", 65000),
        ("int32", -100_000),
        ("uint32", 900_000),
        ("int64", -999_999),
        ("uint64", 999_999),
        ("float32", -542.5),
        ("float64", 0.125),
    ],
)
@pytest.mark.parametrize("order", ["big", "little"])
async def test_every_type_in_both_word_orders(shared, kind, number, order):
    form = {"uint64": ">Q", "float64": ">d"}.get(kind)
    raw = struct.pack(form, number) if form else b"".join(w.to_bytes(2, "big") for w in words(number, kind))
    laid = [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]
    registers = dict(enumerate(laid if order == "big" else laid[::-1], 100))
    async with modbus_device(registers) as device:
        source = opened(device, meter(100, kind, word_order=order), shared, "energy_meters")
        assert (await source.read()).values == {"grid_power_w": number}


async def test_what_the_device_does_not_have_is_left_out_and_never_a_number(shared):
    async with modbus_device({1: 5, 2: 0x8000, 3: 0xFFFF, 4: 0}) as device:
        absent = {"bat_power_w": {"register": 1, "type": "int16"}, "soc": {"register": 3, "type": "uint16"}}
        optional = absent | {"soc": absent["soc"] | {"optional": True}}
        assert (await opened(device, optional, shared).read()).values == {"bat_power_w": 5}
        with pytest.raises(SourceError, match='soc: nothing at register "3"'):
            await opened(device, absent, shared).read()
        with pytest.raises(SourceError, match='grid_power_w: nothing at register "2"'):
            await opened(device, meter(2), shared, "energy_meters").read()
        asleep = opened(device, meter(2, when_absent=0), shared, "energy_meters")
        assert (await asleep.read()).values == {"grid_power_w": 0}
        meant = opened(device, meter(2, not_available=[]), shared, "energy_meters")
        assert (await meant.read()).values == {"grid_power_w": -32768}
        own = opened(device, meter(4, not_available=[0], optional=True), shared, "energy_meters")
        with pytest.raises(SourceError, match="the device does not give it now"):
            await own.read()


async def test_a_device_that_is_not_to_be_read_across_a_gap_is_read_without(shared):
    async with modbus_device({40083: 749, 40090: 782}) as device:
        source = opened(device, BATTERY, shared)
        assert (await source.read()).values == {"bat_power_w": -749, "soc": 78.2}
        device.requests.clear()
        await source.read()
        assert device.requests == [(1, 3, 40083, 1), (1, 3, 40090, 1)]


@pytest.mark.parametrize(
    ("code", "message"),
    [(1, "illegal function"), (2, "no such register"), (4, "has failed"), (6, "is busy"), (11, "is the unit right")],
)
async def test_a_refusal_is_told_in_words(shared, code, message):
    async with modbus_device({1: 1}) as device:
        device.refuse[1] = code
        with pytest.raises(SourceError, match=f"unit 1 register 1 refuses: .*{message}.* \\[{code}\\]"):
            await opened(device, meter(1), shared, "energy_meters").read()
        del device.refuse[1]
        assert (await opened(device, meter(1), shared, "energy_meters").read()).values == {"grid_power_w": 1}


async def test_phases_are_added_by_an_expression(shared):
    async with modbus_device({1: 100, 2: words(-20)[0], 3: 3}) as device:
        inputs = {f"l{n}": {"register": n, "type": "int16"} for n in (1, 2, 3)}
        source = opened(device, {"grid_power_w": {"expr": "l1 + l2 + l3"}}, shared, "energy_meters", inputs=inputs)
        assert (await source.read()).values == {"grid_power_w": 83}
        assert len(device.requests) == 1


async def test_a_host_that_is_not_there_is_named_and_found_once_it_is(shared):
    port = free_port()
    options = Options.model_validate({"host": "127.0.0.1", "port": port, "values": meter(1)})
    source = open_source(options, "energy_meters", shared)
    with pytest.raises(SourceError, match=f"127.0.0.1:{port} cannot be reached"):
        await source.read()
    async with modbus_device({1: 9}, port=port):
        assert (await source.read()).values == {"grid_power_w": 9}
    with pytest.raises(SourceError):
        await source.read()
    async with modbus_device({1: 10}, port=port):
        assert (await source.read()).values == {"grid_power_w": 10}


class Scripted:
    """A bare socket where a device should be: `answer(request)` gives the bytes to send, when it wants to."""

    def __init__(self, answer):
        self._answer = answer
        self.connections = 0

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.host, self.port = "127.0.0.1", self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()

    async def _serve(self, reader, writer):
        self.connections += 1
        try:
            while request := await reader.read(64):
                for part in await self._answer(request):
                    writer.write(part)
                    await writer.drain()
                    if part == b"":
                        return
        except ConnectionError:
            pass
        finally:
            writer.close()


def answer_to(request, *registers, tid=None):
    """A right answer to a request for holding registers."""
    tid = int.from_bytes(request[:2], "big") if tid is None else tid
    pdu = bytes([3, 2 * len(registers)]) + b"".join(register.to_bytes(2, "big") for register in registers)
    return tid.to_bytes(2, "big") + b"\0\0" + (len(pdu) + 1).to_bytes(2, "big") + request[6:7] + pdu


async def test_a_late_answer_is_never_taken_for_the_next_ones(shared):
    late = asyncio.Event()
    asked = []

    async def answer(request):
        asked.append(request)
        if len(asked) == 1:
            await late.wait()  # the answer to the first request comes when the second is under way
        else:
            late.set()
        return [answer_to(request, len(asked), tid=1)]  # and its transaction number cannot tell the two apart

    async with Scripted(answer) as device:
        source = opened(device, meter(1), shared, "energy_meters", answer_within="100ms")
        with pytest.raises(SourceError, match=r"unit 1 does not answer within 0\.1 s"):
            await source.read()
        assert (await source.read()).values == {"grid_power_w": 2}
        assert device.connections == 2


async def test_a_cancelled_read_leaves_no_answer_behind(shared):
    late, arrived = asyncio.Event(), asyncio.Event()
    asked = []

    async def answer(request):
        asked.append(request)
        arrived.set()
        if len(asked) == 1:
            await late.wait()
        return [answer_to(request, len(asked), tid=1)]

    async with Scripted(answer) as device:
        source = opened(device, meter(1), shared, "energy_meters")
        reading = asyncio.create_task(source.read())
        await arrived.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        late.set()
        assert (await source.read()).values == {"grid_power_w": 2}
        assert device.connections == 2


async def test_an_answer_with_another_transaction_number_is_passed_over(shared):
    async def answer(request):
        return [answer_to(request, 666, tid=999), answer_to(request, 5)]

    async with Scripted(answer) as device:
        assert (await opened(device, meter(1), shared, "energy_meters").read()).values == {"grid_power_w": 5}


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"\0"],
        [b"\0", b""],
        [b"HTTP/1.0 400 Bad Request\r\n\r\n"],
        [bytes(300)],
        [b"\0\1\0\0\0\2\1\x99"],
        [b"\0\1\0\0\0\3\1\3\0"],
        [b"\0\1\0\0\0\5\1\3\2\0\1"],
    ],
)
async def test_a_device_that_closes_or_sends_rubbish_gives_an_error_or_a_value_and_harms_nothing(shared, parts):
    async def answer(request):
        return parts

    async with Scripted(answer) as device:
        source = opened(device, meter(1), shared, "energy_meters", answer_within="100ms")
        for _ in range(2):
            try:
                assert (await source.read()).values == {"grid_power_w": 1}
            except SourceError as error:
                assert str(device.port) in str(error)


async def test_an_answer_of_the_wrong_length_is_refused(shared):
    async def answer(request):
        return [answer_to(request, 1, 2, 3)]

    async with Scripted(answer) as device:
        with pytest.raises(SourceError, match="the answer is not to what was asked"):
            await opened(device, meter(1), shared, "energy_meters").read()


async def test_a_silent_unit_does_not_hold_up_the_others_on_its_connection(shared):
    units = {unit: {"holding": {1: unit}, "input": {}} for unit in (1, 2)}
    async with modbus_device(units=units) as device:
        device.silent_units.add(2)
        good = opened(device, meter(1), shared, "energy_meters", answer_within="100ms")
        silent = opened(device, meter(1), shared, "energy_meters", answer_within="100ms", unit=2)
        await good.read()
        with pytest.raises(SourceError, match="unit 2 does not answer"):
            await silent.read()
        with pytest.raises(SourceError, match="unit 2 has not answered; it is asked again in"):
            await silent.read()
        assert (await good.read()).values == {"grid_power_w": 1}


async def test_devices_of_one_host_share_one_connection_and_wait_their_turn(shared):
    units = {unit: {"holding": {1: unit}, "input": {}} for unit in range(1, 6)}
    async with modbus_device(units=units) as device:
        sources = [opened(device, meter(1), shared, "energy_meters", unit=unit) for unit in units]
        readings = await asyncio.gather(*(source.read() for source in sources))
    assert [reading.values["grid_power_w"] for reading in readings] == list(units)
    assert len(shared.connections) == 1


async def test_those_who_wait_for_a_dead_host_are_told_at_once(shared):
    options = Options.model_validate({"host": "127.0.0.1", "port": free_port(), "values": meter(1)})
    sources = [open_source(options, "energy_meters", shared) for _ in range(4)]
    results = await asyncio.gather(*(source.read() for source in sources), return_exceptions=True)
    assert all("cannot be reached" in str(result) for result in results)


async def test_rtu_frames_over_tcp(shared):
    async with modbus_device({1: words(-77)[0]}, framer="rtu") as device:
        source = opened(device, meter(1), shared, "energy_meters", framing="rtu")
        for _ in range(3):
            assert (await source.read()).values == {"grid_power_w": -77}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"host": None}, '"host" or on a "serial" port'),
        ({"serial": "/dev/ttyUSB0"}, '"host" or on a "serial" port'),
        ({"values": {"grid_power_w": {"register": 1}}}, 'a register needs its "type"'),
        ({"values": {"grid_power_w": {"type": "int16"}}}, 'needs a "register"'),
        ({"values": meter(65535, "int32")}, "does not end within"),
        ({"values": meter(1, "int24")}, "Input should be 'int16'"),
        ({"values": {}}, "nothing is read"),
        ({"unit": 256}, "less than or equal to 255"),
    ],
)
def test_a_mistake_in_the_options_is_found_when_they_are_read(change, message):
    with pytest.raises(ValidationError, match=message):
        Options.model_validate({"host": "h", "values": meter(1)} | change)


SPANS = st.lists(
    st.builds(Span, st.sampled_from(["holding", "input"]), st.integers(0, 300), st.integers(1, 4)),
    min_size=1,
    max_size=30,
)


@given(spans=SPANS, gap=st.integers(-1, 20))
def test_bundles_cover_every_value_once_and_stay_within_one_request(spans, gap):
    bundles = bundled(spans, gap)
    for bundle in bundles:
        assert bundle.count <= 100
    for span in spans:
        assert any(b.table == span.table and b.first <= span.first and span.end <= b.end for b in bundles)
    assert len(bundles) <= len(set(spans))


@given(
    raw=st.lists(st.integers(0, 0xFFFF), min_size=4, max_size=4),
    kind=st.sampled_from(["int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]),
    order=st.sampled_from(["big", "little"]),
)
def test_any_registers_are_a_number_or_nothing(raw, kind, order):
    number = decoded(raw[: size(kind)], kind, order, absent_patterns(kind))
    assert number is None or number == number


@settings(max_examples=25, deadline=None)
@given(
    registers=st.lists(st.integers(0, 0xFFFF), min_size=8, max_size=8),
    kind=st.sampled_from(["int16", "uint32", "int64", "float32", "float64"]),
)
def test_no_registers_whatever_raise_anything_else(registers, kind):
    async def once():
        shared = Shared()
        async with modbus_device(dict(enumerate(registers))) as device:
            try:
                values = (await opened(device, meter(0, kind, scale=-0.1), shared, "energy_meters").read()).values
                assert abs(values["grid_power_w"]) <= 1_000_000
            except SourceError:
                pass
            finally:
                await shared.close()

    asyncio.run(once())


@asynccontextmanager
async def serial_meter(answer):
    """A meter at the other end of a serial line: `answer(request)` gives its bytes, when it wants to."""
    need_module("serial")
    ours, theirs = os.openpty()
    tty.setraw(ours)
    tty.setraw(theirs)
    asked = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.add_reader(ours, lambda: asked.put_nowait(os.read(ours, 256)))

    async def serve():
        request = b""
        while True:
            request += await asked.get()
            if len(request) == 8:
                os.write(ours, await answer(request))
                request = b""

    serving = asyncio.create_task(serve())
    try:
        yield os.ttyname(theirs)
    finally:
        serving.cancel()
        loop.remove_reader(ours)
        os.close(ours)
        os.close(theirs)


def rtu_answer(number):
    """Unit 5's answer to a request for a float in input registers, with pymodbus's own checksum."""
    body = bytes([5, 4, 4]) + struct.pack(">f", number)
    return body + FramerRTU.compute_CRC(body).to_bytes(2, "big")


def serial_options(line, **more):
    values = meter(52, "float32", table="input")
    return Options.model_validate({"serial": line, "unit": 5, "values": values} | more)


async def test_a_serial_line_with_rtu_frames(shared):
    async def answer(request):
        assert request[:6] == bytes([5, 4, 0, 52, 0, 2])
        return rtu_answer(-321.5)

    async with serial_meter(answer) as line:
        source = open_source(serial_options(line), "energy_meters", shared)
        for _ in range(2):
            assert (await source.read()).values == {"grid_power_w": -321.5}
        await shared.close()


async def test_a_late_answer_on_a_serial_line_is_never_taken_for_the_next_ones(shared, monkeypatch):
    monkeypatch.setattr("pusher.sources.modbus_link._QUIET_S", 0.3)
    given_up, asked = asyncio.Event(), []

    async def answer(request):
        asked.append(request)
        if len(asked) == 1:
            await given_up.wait()
            await asyncio.sleep(0.05)  # when the next request would be under way
        return rtu_answer(len(asked))

    async with serial_meter(answer) as line:
        source = open_source(serial_options(line, answer_within="150ms"), "energy_meters", shared)
        with pytest.raises(SourceError, match="does not answer"):
            await source.read()
        given_up.set()
        assert (await source.read()).values == {"grid_power_w": 2}
        await shared.close()


async def test_a_serial_port_that_is_not_there_is_named(shared):
    need_module("serial")
    options = Options.model_validate({"serial": "/dev/no-such-port", "values": meter(1)})
    with pytest.raises(SourceError, match="/dev/no-such-port"):
        await open_source(options, "energy_meters", shared).read()


@settings(max_examples=10, deadline=None)
@given(seed=st.integers())
def test_whatever_is_late_or_cancelled_no_device_is_shown_anothers_value(seed):
    chance = random.Random(seed)

    async def answer(request):
        await asyncio.sleep(chance.choice([0, 0, 0.002, 0.02]))
        register = int.from_bytes(request[8:10], "big")
        return [answer_to(request, register, tid=chance.choice([None, 0, 1]))]

    async def read_often(source, register):
        for _ in range(8):
            try:
                async with asyncio.timeout(chance.choice([0.001, 0.005, 1])):
                    assert (await source.read()).values == {"grid_power_w": register}
            except (SourceError, TimeoutError):
                pass

    async def once():
        shared = Shared()
        async with Scripted(answer) as device:
            sources = {n: opened(device, meter(n), shared, "energy_meters", answer_within="10ms") for n in range(1, 6)}
            await asyncio.gather(*(read_often(source, register) for register, source in sources.items()))
            await shared.close()

    asyncio.run(once())
