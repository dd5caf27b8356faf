"""The wallbox gets its answer: from the cloud, without the cloud from the pusher, and never an old one."""

import json
import re
import signal
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import web

from tests.proxy.cloud import DOCUMENT, Authority, Cloud, Fault, always, cut, slow, stall
from tests.proxy.house import Proxy, Pusher, local_status, wait_until
from tests.proxy.wallbox import INFO, VALUES, request

Start = Callable[..., Proxy]


def assert_values(proxy: Proxy, answered_by: str) -> None:
    """The wallbox gets values from whom it should."""
    answer = proxy.ask()
    assert answer.status == 200, answer
    assert answer.is_plain, answer
    assert answer.json()["device_values"]["energy_meters"]["0"].keys() == {"grid_power_w"}
    assert answer.headers["x-answered-by"] == answered_by


def assert_soon(proxy: Proxy, answered_by: str) -> None:
    """The same, once the copy of this second is gone and the proxy asks again who had failed; no poll goes without."""
    wait_until(lambda: poll(proxy) == answered_by, f"{answered_by} answers")
    assert_values(proxy, answered_by)


def poll(proxy: Proxy) -> str:
    answer = proxy.ask()
    assert answer.status == 200, answer
    return answer.headers["x-answered-by"]


def test_with_all_well_the_cloud_answers(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    assert_values(proxy, "cloud")
    info = proxy.ask(request(INFO))
    assert (info.status, info.json()["device_info"]["inverters"]["0"]["name"]) == (200, "Roof")
    assert info.is_plain
    assert [asked.path for asked in cloud.asked] == [VALUES, INFO]


def test_polls_share_one_tls_connection_with_the_right_name(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    for path in (VALUES, INFO) * 5:
        assert proxy.ask(request(path)).status == 200
    time.sleep(5)  # the wallbox's pause, longer than any timeout: the connection must outlast it
    assert_values(proxy, "cloud")
    assert len({asked.connection for asked in cloud.asked}) == 1
    assert cloud.names == ["localhost"]


def test_a_slow_cloud_costs_one_poll_and_the_pusher_answers(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    cloud.fault = slow
    assert_values(proxy, "pusher")
    asked = len(cloud.asked)
    assert asked == 1
    for _ in range(3):
        assert_values(proxy, "pusher")
    assert len(cloud.asked) == asked, "a cloud that hangs is left alone for a while"


def test_a_slow_cloud_holds_up_no_crowd(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    cloud.fault = slow
    with ThreadPoolExecutor(50) as wallboxes:
        answers = list(wallboxes.map(lambda _: proxy.ask(), range(50)))
    assert {(answer.status, answer.headers["x-answered-by"]) for answer in answers} == {(200, "pusher")}
    assert max(answer.took_s for answer in answers) < 30, "nobody waits for the cloud's own end"


def test_a_cloud_that_refuses_is_replaced_and_comes_back(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    assert_values(proxy, "cloud")
    cloud.refuse()
    assert_soon(proxy, "pusher")
    cloud.start()
    assert_soon(proxy, "cloud")


def test_a_cloud_whose_values_are_stale_is_replaced_at_once(
    kind: str, start_proxy: Start, cloud: Cloud, tokens: dict[str, object]
) -> None:
    proxy = start_proxy(kind, token_file=tokens["nothing"])
    for _ in range(3):
        assert_values(proxy, "pusher")
    assert len(cloud.asked) == 3, "a clear answer is no failure; the cloud is asked each time"


@pytest.mark.parametrize(
    "answer",
    [
        always(401),
        always(403),
        always(404, "<h1>not here</h1>"),
        always(429),
        always(500, "x" * 30000),
        always(302, location="https://localhost/elsewhere"),
        always(304),
        always(524),
    ],
    ids=["401", "403", "404", "429", "500", "redirect", "not modified", "strange"],
)
def test_whatever_else_the_cloud_says_never_reaches_the_wallbox(
    kind: str, start_proxy: Start, cloud: Cloud, answer: object
) -> None:
    proxy = start_proxy(kind)
    cloud.fault = answer
    assert_values(proxy, "pusher")


LENGTHS = ("content-length", "chunks", "unsaid")


@pytest.mark.parametrize(
    "faults",
    [[cut(length) for length in LENGTHS], [stall("content-length")], [stall("chunks")]],
    ids=["cut", "stalled", "stalled chunks"],
)
def test_a_part_of_an_answer_never_reaches_the_wallbox(
    kind: str, start_proxy: Start, cloud: Cloud, faults: list[Fault]
) -> None:
    """The cloud ends, or pauses for ever, within the body: then the pusher answers, whichever way a length is told."""
    proxy = start_proxy(kind)
    for fault in faults:
        wait_for_another_second()
        cloud.fault = fault
        assert_values(proxy, "pusher")
    cloud.fault = None
    if len(faults) > 1:  # else it hung, and is left alone for a while
        assert_soon(proxy, "cloud")


def test_a_part_of_an_answer_reaches_no_one_of_a_crowd(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    cloud.fault = stall("content-length")
    with ThreadPoolExecutor(20) as wallboxes:
        answers = list(wallboxes.map(lambda _: proxy.ask(), range(20)))
    assert {(answer.status, answer.headers["x-answered-by"]) for answer in answers} == {(200, "pusher")}


def test_a_cloud_that_drips_is_not_waited_for(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    """No pause is long enough to count, but all of them together are."""
    proxy = start_proxy(kind)
    cloud.fault = stall("content-length", pause_s=2)
    assert_values(proxy, "pusher")


@pytest.mark.parametrize("length", LENGTHS)
def test_an_answer_in_pieces_is_put_together(kind: str, start_proxy: Start, cloud: Cloud, length: str) -> None:
    """If it is sure to be whole: by its length or by its chunks."""
    proxy = start_proxy(kind)
    cloud.fault = stall(length, pause_s=0.05)
    if length != "unsaid":
        answer = proxy.ask()
        assert (answer.status, answer.body, answer.headers["x-answered-by"]) == (200, DOCUMENT, "cloud")
    else:
        assert_values(proxy, "pusher")


def wait_for_another_second() -> None:
    """Until the copy of this second is gone."""
    begun = time.monotonic()
    wait_until(lambda: time.monotonic() > begun + 1, "the clock goes on")


@pytest.mark.parametrize("name", ["elsewhere.example", "localhost"])
def test_a_wrong_certificate_is_refused(
    kind: str,
    start_proxy: Start,
    cloud: Cloud,
    authority: Authority,
    name: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """First a name that is not the cloud's, then the right name from an authority that nobody trusts."""
    strange = Authority(tmp_path_factory.mktemp("strange")) if name == "localhost" else authority
    cloud.refuse()
    cloud.start(strange.context(name))
    proxy = start_proxy(kind)
    assert_values(proxy, "pusher")
    assert cloud.asked == []


def test_a_killed_pusher_answers_nothing_and_the_wallbox_gets_503(
    kind: str, start_proxy: Start, cloud: Cloud, mortal: Pusher
) -> None:
    cloud.fault = always(502)
    proxy = start_proxy(kind, socket=mortal.socket)
    assert_values(proxy, "pusher")
    mortal.kill()
    assert mortal.socket.exists(), "what is killed does not clear up"
    assert_unavailable(proxy)
    mortal.start()
    assert_values(proxy, "pusher")


def test_a_hung_pusher_gives_503_in_time(kind: str, start_proxy: Start, cloud: Cloud, mortal: Pusher) -> None:
    cloud.fault = always(502)
    proxy = start_proxy(kind, socket=mortal.socket)
    mortal.send(signal.SIGSTOP)
    assert_unavailable(proxy)
    mortal.send(signal.SIGCONT)
    wait_until(lambda: local_status(mortal.socket) == 200, "the pusher is itself again")
    assert_values(proxy, "pusher")


def test_a_hung_cloud_and_a_hung_pusher_end_in_503(kind: str, start_proxy: Start, cloud: Cloud, mortal: Pusher) -> None:
    cloud.fault = slow
    proxy = start_proxy(kind, socket=mortal.socket)
    mortal.send(signal.SIGSTOP)
    assert_unavailable(proxy)


def test_the_pushers_own_word_for_what_lacks_reaches_the_wallbox(
    kind: str, start_proxy: Start, cloud: Cloud, tmp_path: Path
) -> None:
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "Grid is not fresh"}
    with local_server(tmp_path / "pusher.sock", json.dumps(problem)) as path:
        proxy = start_proxy(kind, socket=path)
        cloud.fault = always(503)
        answer = proxy.ask()
    assert (answer.status, answer.json()) == (503, problem)
    assert answer.is_plain
    assert answer.headers["x-answered-by"] == "pusher"


@contextmanager
def local_server(path: Path, problem: str) -> Iterator[Path]:
    """Where pusher.sock should be: answers 503 to whoever asks."""

    class Unavailable(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while self.rfile.readline().strip():
                pass
            head = f"HTTP/1.1 503 Service Unavailable\r\nContent-Length: {len(problem)}\r\nConnection: close\r\n\r\n"
            self.wfile.write(f"{head}{problem}".encode())

    with socketserver.ThreadingUnixStreamServer(str(path), Unavailable) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield path
        server.shutdown()


def assert_unavailable(proxy: Proxy) -> None:
    answer = proxy.ask()
    assert answer.status == 503
    assert answer.is_plain, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.json()["status"] == 503


def test_edge_first_costs_the_cloud_nothing(kind: str, start_proxy: Start, cloud: Cloud, mortal: Pusher) -> None:
    proxy = start_proxy(kind, "--edge-first", socket=mortal.socket)
    for _ in range(3):
        assert_values(proxy, "pusher")
    assert cloud.asked == []
    mortal.kill()
    assert_values(proxy, "cloud")
    cloud.refuse()
    wait_until(lambda: proxy.ask().status == 503, "nobody is left")
    assert_unavailable(proxy)


def test_wallboxes_share_one_read_of_the_cloud_per_second(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    begun = time.time()
    with ThreadPoolExecutor(20) as wallboxes:
        answers = list(wallboxes.map(lambda _: proxy.ask(), range(1000)))
    seconds = int(time.time()) - int(begun) + 1
    assert {answer.status for answer in answers} == {200}
    assert len(cloud.asked) <= seconds


def test_no_body_is_older_than_a_second(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    """Whatever the cloud says of keeping: nginx serves a body in its own second of the clock only, Caddy for one."""
    made: list[float] = []

    async def dated(_: web.BaseRequest) -> web.StreamResponse:
        made.append(time.time())
        keep = {"Cache-Control": "max-age=900", "X-Accel-Expires": "900"}
        return web.json_response({"made": made[-1]}, headers=keep)

    cloud.fault = dated
    proxy = start_proxy(kind)
    ages_s = []
    while len(made) < 4:
        asked_at = time.time()
        ages_s.append(asked_at - proxy.ask().json()["made"])
    assert max(ages_s) <= 1
    assert len(ages_s) > len(made), "copies were used at all"


def test_each_poll_is_one_line_of_log_with_who_answered_and_what_the_cloud_had_said(
    kind: str, start_proxy: Start, cloud: Cloud
) -> None:
    proxy = start_proxy(kind)
    assert_values(proxy, "cloud")
    cloud.fault = always(401)
    wait_for_another_second()
    assert_values(proxy, "pusher")
    cloud.fault = None
    assert_values(proxy, "cloud")
    proxy.ask(request("/elsewhere"))
    who = {"nginx": r"GET \S+ \d+ from=(\w+)", "caddy": r'"msg":"handled request".*?(cloud|pusher|$)'}[kind]
    wait_until(lambda: len(re.findall(who, proxy.log, re.MULTILINE)) == 4, "four lines for four polls")
    itself = "proxy" if kind == "nginx" else ""
    assert re.findall(who, proxy.log, re.MULTILINE) == ["cloud", "pusher", "cloud", itself]
    assert "127.0.0.1" in proxy.log
    if kind == "nginx":
        assert re.findall(r' cloud="(.*)"', proxy.log) == ["200", "401", "200", ""]
    else:  # where it was not the document
        assert re.findall(r'"X-Cloud-Said":\["(.*?)"\]', proxy.log) == ["401"]


def test_errors_are_not_kept(kind: str, start_proxy: Start, cloud: Cloud) -> None:
    proxy = start_proxy(kind)
    cloud.fault = always(503, **{"Cache-Control": "max-age=900"})
    assert_values(proxy, "pusher")
    cloud.fault = None
    assert_values(proxy, "cloud")  # and at once
