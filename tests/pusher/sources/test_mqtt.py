"""Devices over MQTT, on a real broker: the newest message counts, an old one never does."""

import asyncio
import gc
import json
import ssl
import subprocess
import sys
import time

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pusher.clock import monotonic_s
from pusher.sources import Shared, SourceError
from pusher.sources import mqtt as module
from pusher.sources.broker import Arrived
from pusher.sources.mqtt import MqttValue, Options, open_source
from tests.pusher.sources.servers import free_port, mosquitto, need


@pytest.fixture
async def shared():
    shared = Shared()
    yield shared
    await shared.close()


@pytest.fixture
async def broker(tmp_path):
    async with mosquitto(tmp_path) as broker:
        yield broker


def load(port, value, **options):
    return Options.model_validate({"host": "127.0.0.1", "port": port, "values": {"load_power_w": value}} | options)


async def until(condition, source):
    """Read until a reading fits, as the daemon does tick by tick."""
    while True:
        try:
            reading = await source.read()
        except SourceError as error:
            reading = error
        if condition(reading):
            return reading
        await asyncio.sleep(0.01)


def says(value):
    return lambda reading: not isinstance(reading, Exception) and value in reading.values.values()


async def test_a_message_is_the_value_until_the_next_one(broker, shared):
    source = open_source(load(broker.port, {"topic": "home/load", "scale": 1000}), "load_power_w", shared)
    reading = asyncio.create_task(until(says(1683), source))
    await asyncio.sleep(0)
    async with broker.client() as device:
        while not reading.done():
            await device.publish("home/load", "1.683")
            await asyncio.sleep(0.01)
        first = await reading
        await device.publish("home/load", "2")
        second = await until(says(2000), source)
    assert first.taken_at_s < second.taken_at_s


async def test_several_devices_share_one_connection_and_a_reading_is_as_old_as_its_oldest_message(broker, shared):
    battery = {"bat_power_w": {"topic": "bat/power", "path": "w"}, "soc": "bat/soc"}
    options = Options.model_validate({"host": "127.0.0.1", "port": broker.port, "values": battery})
    source = open_source(options, "batteries", shared)
    other = open_source(load(broker.port, "home/load"), "load_power_w", shared)
    async with broker.client() as device:
        reading = asyncio.create_task(until(says(-749), source))
        while not reading.done():
            await device.publish("bat/power", json.dumps({"w": -749}))
            await device.publish("bat/soc", "78.2")
            await device.publish("home/load", "5")
            await asyncio.sleep(0.01)
        first = await reading
        await until(says(5), other)
        await device.publish("bat/soc", "79")
        later = await until(says(79), source)
    assert first.values == {"bat_power_w": -749, "soc": 78.2}
    assert len(shared.connections) == 1
    messages = next(iter(shared.connections.values()))._arrived
    assert later.taken_at_s == messages["bat/power"].at_s < messages["bat/soc"].at_s


async def test_a_retained_message_of_unknown_age_does_not_count(broker, shared, monkeypatch):
    monkeypatch.setattr("pusher.sources.broker._FIRST_WAIT_S", 0.3)
    await broker.publish("home/load", "666", retain=True)
    source = open_source(load(broker.port, "home/load"), "load_power_w", shared)
    refused = await until(lambda reading: "retained" in str(reading), source)
    assert isinstance(refused, SourceError)
    async with broker.client() as device:
        await device.publish("home/load", "7", retain=True)  # published while we listen: that is now
    await until(says(7), source)


async def test_a_message_older_than_its_max_age_is_an_error_not_a_value(broker, shared, monkeypatch):
    source = open_source(load(broker.port, {"topic": "t", "max_age": "30s"}), "load_power_w", shared)
    reading = asyncio.create_task(until(says(1), source))
    async with broker.client() as device:
        while not reading.done():
            await device.publish("t", "1")
            await asyncio.sleep(0.01)
    taken_at_s = (await reading).taken_at_s
    monkeypatch.setattr(module, "monotonic_s", lambda: taken_at_s + 29)
    assert (await source.read()).values == {"load_power_w": 1}
    monkeypatch.setattr(module, "monotonic_s", lambda: taken_at_s + 3600)
    with pytest.raises(SourceError, match=r'load_power_w: the last message on "t" is 3\d\d\d s old, more than max_age'):
        await source.read()


async def test_an_optional_value_is_left_out_while_its_message_is_missing_or_too_old(broker, shared, monkeypatch):
    monkeypatch.setattr("pusher.sources.broker._FIRST_WAIT_S", 0.3)
    values = {"bat_power_w": {"topic": "power", "max_age": "1h"}, "soc": {"topic": "soc", "optional": True}}
    options = Options.model_validate({"host": "127.0.0.1", "port": broker.port, "values": values})
    source = open_source(options, "batteries", shared)
    async with broker.client() as device:
        reading = asyncio.create_task(until(says(5), source))
        while not reading.done():
            await device.publish("power", "5")
            await asyncio.sleep(0.01)
        assert (await reading).values == {"bat_power_w": 5}
        await device.publish("soc", "40")
        both = await until(says(40), source)
    monkeypatch.setattr(module, "monotonic_s", lambda: both.taken_at_s + 600)
    assert (await source.read()).values == {"bat_power_w": 5}


async def test_the_broker_may_come_late_and_go_and_come_again(tmp_path, shared, monkeypatch):
    monkeypatch.setattr("pusher.tasks.BACKOFF_FROM_S", 0.02)
    monkeypatch.setattr("pusher.tasks.BACKOFF_TO_S", 0.1)
    monkeypatch.setattr("pusher.sources.broker._FIRST_WAIT_S", 0.1)
    async with mosquitto(tmp_path) as broker:
        await broker.stop()
        source = open_source(load(broker.port, "t"), "load_power_w", shared)
        with pytest.raises(SourceError, match=f"the broker 127.0.0.1:{broker.port} cannot be used: .*refused"):
            await source.read()
        for value in (1, 2):
            await broker.start()
            reading = asyncio.create_task(until(says(value), source))
            async with broker.client() as device:
                while not reading.done():
                    await device.publish("t", str(value))
                    await asyncio.sleep(0.01)
            assert (await reading).values == {"load_power_w": value}
            await broker.stop()
        await broker.start()  # for the fixture to stop


async def test_a_device_that_wants_to_be_asked_is_asked(broker, shared):
    asking = {"topic": "R/abc/keepalive", "payload": "[]", "every": "1s"}
    source = open_source(load(broker.port, "N/abc/power", keepalive=asking), "load_power_w", shared)
    async with broker.client() as device:
        await device.subscribe("R/abc/keepalive")
        reading = asyncio.create_task(until(says(11), source))
        asked = await anext(device.messages)
        assert asked.payload == b"[]"
        await device.publish("N/abc/power", "11")
        await reading


@pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning")  # paho, failed handshake
async def test_login_and_tls(tmp_path, shared):
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made = await asyncio.create_subprocess_exec(
        need("mosquitto_passwd"), "-c", "-b", str(tmp_path / "passwords"), "ann", "s3cret"
    )
    assert await made.wait() == 0
    tls = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    settings = (
        f"certfile {tmp_path}/server.pem\nkeyfile {tmp_path}/server.pem\n"
        f"password_file {tmp_path}/passwords\nallow_anonymous false"
    )
    async with mosquitto(tmp_path, settings, tls=tls) as broker:
        encrypted = {"tls": True, "ca_file": str(tmp_path / "ca.pem")}
        login = {"user": "ann", "password": "s3cret"}
        source = open_source(load(broker.port, "t", login=login, **encrypted), "load_power_w", shared)
        reading = asyncio.create_task(until(says(3), source))
        async with broker.client(username="ann", password="s3cret") as device:
            while not reading.done():
                await device.publish("t", "3")
                await asyncio.sleep(0.01)
        wrong = load(broker.port, "t", login=login | {"password": "wr0ng"}, **encrypted)
        with pytest.raises(SourceError, match=r"cannot be used: .*[Nn]ot authori[sz]ed") as caught:
            await open_source(wrong, "load_power_w", shared).read()
        assert "wr0ng" not in str(caught.value) + repr(wrong)
        untrusted = load(broker.port, "t", login=login, tls=True)
        with pytest.raises(SourceError, match="certificate verify failed"):
            await open_source(untrusted, "load_power_w", shared).read()
        await shared.close()
    gc.collect()


async def test_a_broker_that_is_not_there_never_blocks_a_read_for_long(shared, monkeypatch):
    monkeypatch.setattr("pusher.sources.broker._FIRST_WAIT_S", 0.05)
    source = open_source(load(free_port(), "t"), "load_power_w", shared)
    for _ in range(3):
        with pytest.raises(SourceError, match="the broker"):
            await source.read()


class OneMessage:
    """Stands where the broker does, with one message."""

    trouble = ""

    def __init__(self, payload):
        self._payload = payload

    async def last(self, topic):
        return Arrived(self._payload, module.monotonic_s())


@settings(max_examples=150, deadline=None)
@given(payload=st.binary(max_size=80), path=st.sampled_from(["@", "value", "a[0].b", "sum(@)", "max(a)"]))
def test_no_payload_whatever_raises_anything_else(payload, path):
    options = load(1883, {"topic": "t", "path": path})
    try:
        reading = asyncio.run(module._Mqtt(options, "load_power_w", OneMessage(payload)).read())
        assert abs(reading.values["load_power_w"]) <= 1_000_000
    except SourceError:
        pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"topic": "home/+/load"}, "no wildcards"),
        ({"topic": "t", "max_age": 5}, 'has no unit: write "5s"'),
        ({"topic": "t", "max_age": "0s"}, "greater than 0"),
        ({"topic": "t", "path": "a["}, "not a JMESPath"),
        ({"topic": "t", "expr": "a"}, "one origin"),
    ],
)
def test_a_mistake_in_the_options_is_found_when_they_are_read(value, message):
    with pytest.raises(ValidationError, match=message):
        load(1883, value)


def test_a_text_stands_for_a_topic():
    assert MqttValue.model_validate("home/load") == MqttValue(topic="home/load")


async def test_what_lay_in_the_socket_while_we_were_held_up_is_no_newer_than_it_may_be(broker, shared):
    source = open_source(load(broker.port, "t"), "load_power_w", shared)
    async with broker.client() as device:
        reading = asyncio.create_task(until(says(1), source))
        while not reading.done():
            await device.publish("t", "1")
            await asyncio.sleep(0.01)
    await asyncio.sleep(1.2)
    began_s = monotonic_s()
    words = (sys.executable, "-c", PUBLISH, str(broker.port))
    with subprocess.Popen(words):  # noqa: ASYNC220 - it is to block
        time.sleep(5)  # noqa: ASYNC251 - as a process that was stopped, or on a host that slept
    held_up = await until(says(2), source)
    assert held_up.taken_at_s <= began_s
    await asyncio.sleep(1.5)
    async with broker.client() as device:
        await device.publish("t", "3")
        assert (await until(says(3), source)).taken_at_s > began_s + 5


PUBLISH = (
    "import sys; from paho.mqtt import publish; publish.single('t', '2', hostname='127.0.0.1', port=int(sys.argv[1]))"
)


async def test_a_connection_that_was_given_up_before_the_brokers_answer_is_closed(shared):
    asked, closed = asyncio.Event(), asyncio.Event()
    answer = asyncio.Event()

    async def slow_broker(reader, writer):
        await reader.read(10)
        asked.set()
        await answer.wait()
        writer.write(bytes([0x20, 2, 0, 0]))  # CONNACK
        while await reader.read(100):
            pass
        closed.set()
        writer.close()

    async with await asyncio.start_server(slow_broker, "127.0.0.1", 0) as server:
        source = open_source(load(server.sockets[0].getsockname()[1], "t"), "load_power_w", shared)
        reading = asyncio.create_task(source.read())
        await asyncio.wait_for(asked.wait(), 10)
        await shared.close()
        answer.set()
        await asyncio.wait_for(closed.wait(), 10)
        await asyncio.gather(reading, return_exceptions=True)
