"""Clients that hold on to connections: however many and however slow, the wallbox is answered meanwhile."""

import json
import resource
import socket
import threading
from contextlib import ExitStack

import pytest

from function.connections import WAIT_LIMIT_S, Row
from tests.attacks.target import VALUES_PATH, Target, attacked, read_answer
from tests.benchmarks.servers import live_post
from tests.conftest import lacking

MANY = 2500


@pytest.fixture
def crowd(target):
    """Opens connections that all close with the test."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < MANY + 500:
        lacking(f"the system lets a process open {hard} files; {MANY} connections at once are NOT tested")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, MANY + 500), hard))
    with ExitStack() as stack:
        yield lambda server=target: stack.enter_context(server.connect())
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


HEAD = f"GET {VALUES_PATH} HTTP/1.1\r\nHost: x\r\n".encode()
CHUNKED = b"POST /sign-in HTTP/1.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


def trickle(connections, data, stop):
    """Give each connection a byte after the other, until told to stop or shown the door."""
    for byte in data:
        for connection in connections:
            if stop.is_set():
                return
            try:
                connection.send(bytes([byte]))
            except OSError:
                return


def test_thousands_of_idle_connections(target: Target, crowd):
    for _ in range(MANY):
        crowd()
    for _ in range(5):
        target.get().check(200)
    target.alive()


@pytest.mark.parametrize("part", ["head", "body", "sign-in"])
def test_requests_that_come_byte_by_byte(target: Target, crowd, part):
    slow = [crowd() for _ in range(300)]
    endless = b"X-Filler: " + b"y" * 5000
    if part == "head":
        begin = [HEAD] * len(slow)
    else:
        path = "/api/v1/live" if part == "body" else "/sign-in"
        begin = [target.head(path, "Content-Length: 200000") for _ in slow]
    for connection, head in zip(slow, begin, strict=True):
        connection.sendall(head)
    stop = threading.Event()
    thread = threading.Thread(target=trickle, args=(slow, endless, stop))
    thread.start()
    try:
        for _ in range(5):
            target.get().check(200)
            target.hear()  # and its pusher is heard: who sends slowly takes no place from who does not
    finally:
        stop.set()
        thread.join()


def test_half_a_connection_is_ended(target: Target):
    for sent in (b"", HEAD, target.head("/api/v1/live", "Content-Length: 500") + b"{"):
        with target.connect() as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            assert read_answer(connection).status in (0, 400)


def test_when_there_is_no_room_the_longest_waiting_goes(tmp_path, crowd):
    with attacked(tmp_path, descriptors=300) as small:
        early = [crowd(small) for _ in range(20)]
        for connection in early:
            connection.sendall(HEAD)
        later = [crowd(small) for _ in range(600)]
        for _ in range(5):
            small.get().check(200)
            small.hear()
        assert {connection.recv(1) for connection in early} == {b""}
        later[-1].sendall(HEAD + f"X-NRGkick-Token: {small.token('read')}\r\n\r\n".encode())
        read_answer(later[-1]).check(200)
        small.alive()


def test_bodies_without_an_end_leave_room_too(tmp_path):
    with attacked(tmp_path, descriptors=300) as small, ExitStack() as stack:
        for number in range(600):
            path = "/sign-in" if number % 2 else "/api/v1/live"
            stack.enter_context(small.connect()).sendall(small.head(path, "Content-Length: 1000") + b"{")
        for _ in range(5):
            small.get().check(200)
            small.hear()
        small.alive()


def test_an_answer_that_nobody_takes_leaves_room_too(tmp_path, crowd):
    with attacked(tmp_path, descriptors=300) as small:
        for _ in range(400):
            deaf = crowd(small)
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 10)
        for _ in range(5):
            small.get().check(200)
        small.alive()
        assert small.memory_mib("VmHWM") < 300


@pytest.mark.parametrize(
    "without_end",
    [
        HEAD + b"X: " + b"y" * 5_000_000,
        HEAD + b"X: y\r\n" * 500_000,
        HEAD + b"Y" * 5_000_000,
        b"GET /" + b"y" * 5_000_000,
        CHUNKED + b"1\r\n{\r\n0\r\nX: " + b"y" * 5_000_000,
        CHUNKED + b"5;" + b"y" * 5_000_000,
    ],
    ids=["value", "headers", "name", "path", "trailer", "chunk-extension"],
)
def test_a_head_without_end_is_refused_and_not_kept(target: Target, without_end):
    target.forget_peak()
    before = target.memory_mib("VmHWM")
    answer = target.send(without_end)
    assert answer.status in (0, 400), answer  # 0: the refusal was lost in what was still being sent
    assert target.memory_mib("VmHWM") < before + 4
    target.alive()


def test_requests_sent_ahead_are_answered_in_order_up_to_a_number(target: Target):
    ask = HEAD + f"X-NRGkick-Token: {target.token('read')}\r\n".encode()
    with target.connect() as connection:
        connection.sendall((ask + b"\r\n") * 9 + ask + b"Connection: close\r\n\r\n")
        received = b""
        while piece := connection.recv(65536):
            received += piece
    assert received.count(b"HTTP/1.1 200") == 10
    target.forget_peak()
    before = target.memory_mib("VmHWM")
    with ExitStack() as stack:
        for _ in range(20):
            connection = stack.enter_context(target.connect())
            try:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 20_000)
            except OSError:
                continue
        target.get().check(200)
    assert target.memory_mib("VmHWM") < before + 20
    target.alive()


def test_a_slow_but_honest_pusher_is_heard(target: Target):
    body = json.dumps(live_post()).encode()
    with target.connect() as connection:
        connection.sendall(target.head("/api/v1/live", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        assert connection.recv(100).startswith(b"HTTP/1.1 100")
        for at in range(0, len(body), 40):
            connection.sendall(body[at : at + 40])
        read_answer(connection).check(200)


class Clock:
    """An event loop's clock that a test turns."""

    def __init__(self):
        self.now_s, self.calls = 0.0, []

    def time(self):
        return self.now_s

    def call_later(self, delay_s, call):
        self.calls.append((self.now_s + delay_s, call))

    def turn(self, seconds):
        end_s = self.now_s + seconds
        while due := [item for item in self.calls if item[0] <= end_s]:
            self.calls.remove(due[0])
            self.now_s = due[0][0]
            due[0][1]()
        self.now_s = end_s


class Client:
    gone = False

    def let_go(self):
        self.gone = True


def test_nobody_is_waited_for_for_ever():
    clock = Clock()
    row = Row(clock, limit=3)
    silent, busy, slow = Client(), Client(), Client()
    for client in (silent, busy, slow):
        row.enter(client)
    row.leave(busy)
    clock.turn(60)
    row.enter(slow)  # it has been answered, and its next request is waited for
    clock.turn(WAIT_LIMIT_S - 61)
    assert not silent.gone
    clock.turn(1)
    assert (silent.gone, busy.gone, slow.gone) == (True, False, False)
    clock.turn(60)
    assert slow.gone
    assert not clock.calls, "an empty row costs nothing"
    row.enter(late := Client())
    clock.turn(WAIT_LIMIT_S)
    assert late.gone
    assert not busy.gone


def test_room_is_made_by_the_longest_waiting_alone():
    row = Row(Clock(), limit=2)
    clients = [Client() for _ in range(4)]
    for number, client in enumerate(clients):
        row.enter(client)
        row.make_room(min(number + 1, 3))
    assert [client.gone for client in clients] == [True, True, False, False]
    row.leave(clients[2])
    row.leave(clients[3])
    row.make_room(3)  # all are at work: nobody is let go
    assert not clients[2].gone
