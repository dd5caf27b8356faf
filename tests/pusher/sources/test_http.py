"""Devices over HTTP: what they say becomes values, whatever else they say becomes a SourceError."""

import asyncio
import json

import pytest
from aiohttp import web
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pusher.sources import Shared, SourceError
from pusher.sources.http import Options, open_source
from tests.pusher.sources.servers import free_port, http_device


@pytest.fixture
async def shared():
    shared = Shared()
    yield shared
    await shared.close()


@pytest.fixture
async def device():
    async with http_device() as device:
        yield device


def meter(device, value="power", **options):
    return Options.model_validate({"url": device.url + "/status", "values": {"grid_power_w": value}} | options)


async def read(options, shared, category="energy_meters"):
    return (await open_source(options, category, shared).read()).values


async def test_a_value_is_found_by_its_path_then_scaled_then_shifted(device, shared):
    device.answers["/status"] = {"emeters": [{"power": -0.542}]}
    options = meter(device, {"path": "emeters[0].power", "scale": 1000, "offset": 2})
    assert await read(options, shared) == {"grid_power_w": -540}


async def test_a_changed_device_is_read_anew_and_stamped_no_newer_than_it_was_asked(device, shared):
    source = open_source(meter(device), "energy_meters", shared)
    device.answers["/status"] = {"power": 1}
    first = await source.read()
    device.answers["/status"] = {"power": 2}
    second = await source.read()
    assert (first.values, second.values) == ({"grid_power_w": 1}, {"grid_power_w": 2})
    assert first.taken_at_s < second.taken_at_s


async def test_text_that_is_a_number_is_one_and_a_true_zero_stays(device, shared):
    device.answers["/status"] = {"power": " 12.50 ", "soc": 0}
    options = meter(device, values={"bat_power_w": "power", "soc": "soc"})
    assert await read(options, shared, "batteries") == {"bat_power_w": 12.5, "soc": 0}


async def test_a_truth_a_code_a_constant_and_an_optional_value(device, shared):
    device.answers["/status"] = {"power": 5, "has_battery": "on"}
    values = {
        "inv_power_ac_w": "power",
        "battery_connected": "has_battery",
        "pv_energy_day_wh": {"path": "day", "optional": True},
        "pv_energy_total_wh": {"constant": 7},
    }
    assert await read(meter(device, values=values), shared, "inverters") == {
        "inv_power_ac_w": 5,
        "battery_connected": True,
        "pv_energy_total_wh": 7,
    }
    device.answers["/status"] = {"power": 5, "mode": 3.0}
    options = meter(device, values={"sl_power_w": "power", "mode": "mode"})
    assert await read(options, shared, "smart_loads") == {"sl_power_w": 5, "mode": 3}


async def test_phases_are_added_by_an_expression(device, shared):
    device.answers["/status"] = {"a": 100, "b": -20.5, "c": "3"}
    options = meter(
        device, {"expr": "l1 + l2 + l3", "scale": -1}, inputs={"l1": "a", "l2": "b", "l3": {"path": "c", "scale": 10}}
    )
    assert await read(options, shared) == {"grid_power_w": -109.5}


async def test_an_expression_without_a_result_says_so(device, shared):
    device.answers["/status"] = {"a": 0}
    with pytest.raises(SourceError, match=r'grid_power_w: "1 / a" has no result for a = 0'):
        await read(meter(device, {"expr": "1 / a"}, inputs={"a": "a"}), shared)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"other": 1}, 'grid_power_w: nothing at path "power"'),
        ({"power": None}, 'nothing at path "power"'),
        ({"power": True}, "a number was expected, True came"),
        ({"power": "12 W"}, "no unit, no comma"),
        ({"power": "1,5"}, "a number was expected"),
        ({"power": [1]}, "a number was expected"),
        (b'{"power": NaN}', "a finite number was expected, nan came"),
        (b'{"power": 1e999}', "a finite number was expected, inf came"),
        ({"power": 10**400}, "a finite number was expected"),
        ({"power": 1_000_001}, "less than or equal to 1000000"),
        (b"<html>busy</html>", "not JSON"),
        (b"", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b" " * (2 << 20), "more than 1048576 bytes"),
    ],
)
async def test_what_is_no_value_is_an_error_that_says_what_came(device, shared, answer, message):
    device.answers["/status"] = answer
    with pytest.raises(SourceError, match=message) as caught:
        await read(meter(device), shared)
    assert len(str(caught.value)) < 300


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    body=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["power", "a"]), inner, max_size=2),
    ).map(lambda document: json.dumps(document).encode())
    | st.binary(max_size=64),
    path=st.sampled_from(["power", "@", "sum(power)", "power[0]", "max_by(@, &power)", "length(power)", "a || power"]),
)
def test_no_answer_whatever_raises_anything_else(body, path):
    async def once():
        shared = Shared()
        async with http_device({"/status": body}) as device:
            try:
                values = await read(meter(device, path), shared)
                assert abs(values["grid_power_w"]) <= 1_000_000
            except SourceError:
                pass
            finally:
                await shared.close()

    asyncio.run(once())


async def test_a_device_that_is_not_there_or_does_not_answer_well_is_named(device, shared):
    port = free_port()
    options = Options.model_validate({"url": f"http://127.0.0.1:{port}/", "values": {"grid_power_w": "p"}})
    with pytest.raises(SourceError, match=f"http://127.0.0.1:{port} cannot be reached"):
        await read(options, shared)
    with pytest.raises(SourceError, match="status 404"):
        await read(meter(device), shared)


async def test_rubbish_instead_of_http_is_an_error(shared):
    async def rubbish(reader, writer):
        await reader.readline()
        writer.write(b"\x00\x01 hello\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(rubbish, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/?key=secret"
        options = Options.model_validate({"url": url, "values": {"grid_power_w": "p"}})
        with pytest.raises(SourceError, match=r"does not speak HTTP|broke off") as caught:
            await read(options, shared)
        assert "secret" not in str(caught.value)


async def test_a_redirect_is_followed_on_the_same_host_only(device, shared):
    async def moved(request):
        raise web.HTTPFound("/new")

    async def away(request):
        raise web.HTTPFound("http://elsewhere.invalid/new")

    async def circle(request):
        raise web.HTTPFound("/status")

    device.answers |= {"/status": moved, "/new": {"power": 3}}
    assert await read(meter(device), shared) == {"grid_power_w": 3}
    device.answers["/status"] = away
    with pytest.raises(SourceError, match=r"redirects to another host, elsewhere\.invalid"):
        await read(meter(device), shared)
    device.answers["/status"] = circle
    with pytest.raises(SourceError, match="in a circle"):
        await read(meter(device), shared)


async def test_devices_that_ask_the_same_at_once_share_one_request(device, shared):
    arrived, go = asyncio.Event(), asyncio.Event()

    async def slow(request):
        arrived.set()
        await go.wait()
        return web.json_response({"power": 1})

    device.answers["/status"] = slow
    sources = [open_source(meter(device), "energy_meters", shared) for _ in range(3)]
    reads = [asyncio.create_task(source.read()) for source in sources]
    await arrived.wait()
    reads[0].cancel()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await reads[0]
    assert [(await read).values for read in reads[1:]] == [{"grid_power_w": 1}] * 2
    assert len(device.requests) == 1


async def test_a_cancelled_read_leaves_nothing_for_the_next_one(device, shared):
    arrived = asyncio.Event()

    async def never(request):
        arrived.set()
        await asyncio.Event().wait()

    device.answers["/status"] = never
    source = open_source(meter(device), "energy_meters", shared)
    reading = asyncio.create_task(source.read())
    await arrived.wait()
    reading.cancel()
    device.answers["/status"] = {"power": 4}
    assert (await source.read()).values == {"grid_power_w": 4}
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_values_on_several_addresses_are_asked_together(device, shared):
    device.answers |= {"/status": {"power": -100}, "/soe": {"percentage": 69.5}}
    options = meter(device, values={"bat_power_w": "power", "soc": {"url": "/soe", "path": "percentage"}})
    assert await read(options, shared, "batteries") == {"bat_power_w": -100, "soc": 69.5}


async def test_a_json_body_is_posted_with_the_headers_given(device, shared):
    device.answers["/status"] = {"power": 1}
    await read(meter(device, body={"fields": ["power"]}, headers={"X-Key": "k1"}), shared)
    method, _, headers, body = device.requests[0]
    assert (method, json.loads(body), headers["X-Key"]) == ("POST", {"fields": ["power"]}, "k1")
    assert headers["Content-Type"] == "application/json"


async def test_basic_and_bearer_logins_reach_the_device_and_no_message(device, shared, tmp_path):
    password = tmp_path / "password"
    password.write_text("pässword\n")

    async def guarded(request):
        given = request.headers.get("Authorization", "")
        good = "Basic YW5uOnDDpHNzd29yZA==", "Bearer t0ken"
        return web.json_response({"power": 1}, status=200 if given in good else 401)

    device.answers["/status"] = guarded
    login = {"user": "ann", "password_file": str(password)}
    assert await read(meter(device, basic=login), shared) == {"grid_power_w": 1}
    assert await read(meter(device, bearer={"token": "t0ken"}), shared) == {"grid_power_w": 1}
    wrong = meter(device, basic={"user": "ann", "password": "wr0ng"})
    with pytest.raises(SourceError, match="refuses the login") as caught:
        await read(wrong, shared)
    assert "wr0ng" not in str(caught.value) + repr(wrong)
    password.unlink()
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        await read(meter(device, basic=login), shared)


async def test_a_digest_login_answers_the_devices_challenge(device, shared):
    async def guarded(request):
        given = request.headers.get("Authorization", "")
        if given.startswith("Digest ") and 'username="ann"' in given and "response=" in given:
            return web.json_response({"power": 1})
        challenge = 'Digest realm="meter", nonce="abc", qop="auth", algorithm=SHA-256'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    device.answers["/status"] = guarded
    options = meter(device, digest={"user": "ann", "password": "pw"})
    assert await read(options, shared) == {"grid_power_w": 1}
    assert all("pw" not in str(request) for request in device.requests)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"grid_power_w": "a["}}, "not a JMESPath"),
        ({"values": {"grid_power": "a"}}, 'did you mean "grid_power_w"'),
        ({"values": {"grid_power_w": {"path": "a", "constant": 1}}}, "one origin"),
        ({"values": {"grid_power_w": {}}}, "here: none"),
        ({"values": {"grid_power_w": {"constant": 1}}}, "nothing is read"),
        ({"values": {"grid_power_w": {"expr": "l1 + l2"}}, "inputs": {"l1": "a"}}, '"l2", which is not an input'),
        ({"values": {"grid_power_w": {"expr": "open('x')"}}, "inputs": {"a": "a"}}, "not understood"),
        ({"url": "ftp://1.2.3.4/"}, "an address looks like"),
        ({"url": "http://ann:pw@1.2.3.4/"}, "no login in an address"),
        ({"values": {"grid_power_w": {"path": "a", "url": "http://other/"}}}, "on another host"),
        ({"basic": {"user": "a"}}, '"password" or "password_file"'),
        ({"basic": {"user": "a", "password": "p"}, "bearer": {"token": "t"}}, "only one of"),
        ({"intervall": 3}, "Extra inputs"),
    ],
)
def test_a_mistake_in_the_options_is_found_when_they_are_read(change, message):
    good = {"url": "http://127.0.0.1/", "values": {"grid_power_w": "a"}}
    with pytest.raises(ValidationError, match=message):
        Options.model_validate(good | change)


def test_values_that_the_category_does_not_have_are_refused_when_it_is_opened():
    options = Options.model_validate({"url": "http://127.0.0.1/", "values": {"grid_power_w": "a"}})
    with pytest.raises(ValueError, match=r'"grid_power_w" is not a value of batteries; it has: bat_power_w, soc, mode'):
        open_source(options, "batteries", Shared())
    options = Options.model_validate({"url": "http://127.0.0.1/", "values": {"soc": "a"}})
    with pytest.raises(ValueError, match='values of batteries need "bat_power_w"'):
        open_source(options, "batteries", Shared())
