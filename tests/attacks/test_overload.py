"""Past its capacity the function says so at once, to those who post; the wallbox is answered all the while."""

import asyncio
import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest

from function.capacity import Capacity
from function.http import Failure
from tests.attacks.target import Target
from tests.benchmarks.servers import KEYRING, VALUES

METER = {"energy_meters": {"0": {"grid_power_w": -542}}}


async def statuses(server, calls):
    """What each call is answered, and with which Retry-After where it is sent away."""
    answers = await asyncio.gather(*calls)
    for status, problem, headers in answers:
        if status in (429, 503):
            assert int(headers["retry-after"]) >= 1
            assert problem["detail"]
    return [status for status, _, _ in answers]


async def test_the_sixty_fifth_post_at_once_is_sent_away_and_the_wallbox_is_not(server):
    """The store takes its time: posts pile up, and those that were taken are stored in the end."""
    read = server.token(scope="read")
    await server.post_live(METER)
    may_save = asyncio.Event()
    save = server.application.sites.store.save

    async def slow_save(*arguments):
        await may_save.wait()
        return await save(*arguments)

    server.application.sites.store.save = slow_save

    def post(number):
        return server.call("POST", "/api/v1/live", server.token(f"site-{number}"), server.live(METER))

    waiting = [asyncio.ensure_future(post(number)) for number in range(64)]
    while server.application._capacity.posts < 64:  # noqa: ASYNC110 - it offers no event
        await asyncio.sleep(0.01)
    assert await statuses(server, [post(number) for number in range(64, 80)]) == [503] * 16
    assert (await server.call("GET", "/api/v1/values.json", read))[0] == 200
    assert (await server.call("POST", "/sign-in", None, {"token": read}))[0] == 200
    may_save.set()
    assert await statuses(server, waiting) == [200] * 64
    assert server.application._capacity.posts == server.application._capacity.work_bytes == 0


async def test_every_place_is_given_back_however_a_post_ends(server):
    token, capacity = server.token(), server.application._capacity
    posts = [b"{", b" " * 300_000, b"", json.dumps(server.live(METER)).encode(), b'{"pusher": 5}']
    for body in posts * 5:
        await server.call("POST", "/api/v1/live", token, body)
    for path in ("/api/v1/live", "/nowhere", "/sign-out"):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        head = f"POST {path} HTTP/1.1\r\nX-NRGkick-Token: {token}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: 500\r\n\r\n{{".encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    for path in ("/api/v1/sites/home", "/api/v1/sites/none"):
        await server.call("DELETE", path, server.token("*", "admin", expires=timedelta(days=1)))
    while capacity.incoming_bytes:  # noqa: ASYNC110 - it offers no event
        await asyncio.sleep(0.01)
    assert (capacity.posts, capacity.incoming_bytes, capacity.work_bytes) == (0, 0, 0)


async def test_bodies_are_counted_on_their_way_in():
    capacity = Capacity(posts_limit=2, incoming_limit_bytes=100)
    async with capacity.place() as first, capacity.place():
        with pytest.raises(Failure, match="too many posts"):
            async with capacity.place():
                pass
        first.incoming(60)
        async with capacity.place() as third:  # a body on its way in holds no place
            with pytest.raises(Failure, match="too many large bodies"):
                third.incoming(41)
        async with capacity.place() as third:
            third.incoming(40)
            await third.received()
            with pytest.raises(Failure, match="too many posts"):
                await first.received()
    assert (capacity.posts, capacity.incoming_bytes, capacity.work_bytes) == (0, 0, 0)


async def test_what_is_at_work_is_bounded_and_the_rest_waits_in_order():
    capacity, order, most = Capacity(at_once=3, work_limit_bytes=100), [], 0

    async def post(number, size_bytes):
        nonlocal most
        async with capacity.place() as place:
            place.incoming(size_bytes)
            await place.received()
            await place.work(size_bytes)
            order.append(number)
            most = max(most, capacity.work_bytes if size_bytes <= 100 else 0)
            for _ in range(5):
                await asyncio.sleep(0)

    sizes = [40, 40, 40, 300, 1, 99, 50, 50, 50, 100]  # one alone may be larger than all
    await asyncio.gather(*(post(number, size_bytes) for number, size_bytes in enumerate(sizes)))
    assert order == list(range(len(sizes)))
    assert most == 100
    assert (capacity.posts, capacity.incoming_bytes, capacity.work_bytes) == (0, 0, 0)


async def test_a_post_that_is_broken_off_while_it_waits_gives_its_place_back():
    capacity = Capacity(at_once=1)
    async with capacity.place():
        waiting = asyncio.ensure_future(capacity.place().__aenter__())
        while capacity.posts < 2:  # noqa: ASYNC110 - it offers no event
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert capacity.posts == 1
    async with capacity.place():
        assert capacity.posts == 1


async def test_looks_into_history_are_bounded_and_polls_are_not(server):
    """One who may read asks for a year a hundred times at once; another's wallbox hears of it as little as it can."""
    await server.post_live(METER)
    may_read, at_work, most = asyncio.Event(), 0, 0
    steps = server.application.days.steps

    async def slow_steps(*arguments):
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await may_read.wait()
        try:
            return await steps(*arguments)
        finally:
            at_work -= 1

    server.application.days.steps = slow_steps
    read, path = server.token(scope="read"), "/api/v1/sites/home/history?resolution=1m"
    chart = "/api/v1/sites/home/chart.svg"
    waiting = [asyncio.ensure_future(server.call("GET", (path, chart)[number % 2], read)) for number in range(64)]
    while server.application._looks.posts < 64 or at_work < 2:  # noqa: ASYNC110 - it offers no event
        await asyncio.sleep(0.01)
    assert await statuses(server, [server.call("GET", path, read) for _ in range(5)]) == [503] * 5
    assert (await server.call("GET", "/api/v1/values.json", read))[0] == 200
    assert (await server.call("POST", "/api/v1/live", server.token(), server.live(METER)))[0] == 200
    may_read.set()
    assert await statuses(server, waiting) == [200] * 64
    assert most == 2, "two at a time"
    assert server.application._looks.posts == 0


async def test_posts_begin_one_by_one_with_room_for_others_between_them():
    capacity, order = Capacity(), []

    async def post(number):
        async with capacity.place():
            order.append(number)

    async def ask():
        for _ in range(5):
            await asyncio.sleep(0)
            order.append("get")

    await asyncio.gather(*(post(number) for number in range(5)), ask())
    posts = [number for number in order if number != "get"]
    assert posts == sorted(posts)
    assert not any(isinstance(one, int) and isinstance(two, int) for one, two in itertools.pairwise(order[:8]))


async def test_a_flood_of_large_batches_costs_bounded_memory_and_no_poll(target: Target):
    now = datetime.now(UTC)
    rows = [
        {"measured_at": (now - timedelta(minutes=back)).isoformat(), "duration_s": 60, "device_values": VALUES}
        for back in range(480)
    ]
    body = json.dumps({"pusher": "bench", "sent_at": now.isoformat(), "readings": rows}).encode()
    target.forget_peak()
    idle_mib = target.memory_mib()

    async def post(number):
        head = target.head(
            "/api/v1/readings", f"Content-Length: {len(body)}", token=KEYRING.make(f"s{number}", "push", now)
        )
        return await asyncio.to_thread(target.send, head + body)

    async def poll():
        return [await asyncio.to_thread(target.get) for _ in range(10)]

    *posts, polls = await asyncio.gather(*(post(number) for number in range(100)), poll())
    for answer in posts:
        answer.check(200, 503)
    assert {answer.status for answer in polls} == {200}
    assert target.memory_mib("VmHWM") < idle_mib + 60
    target.alive()
