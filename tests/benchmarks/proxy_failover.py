"""How long the wallbox waits when the cloud fails, behind nginx and behind Caddy.

Both stand before the real function and the real pusher, as their `run` starts them. For each way to fail: how long
after the failure the first local answer was complete (the wallbox asks again at once, the hardest case), the slowest
answer, and what a poll costs while the failure lasts. `make bench` takes three ways; all of them, as JSON, in some two
minutes: python -m tests.benchmarks.proxy_failover [--out FILE]
"""

import argparse
import contextlib
import json
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.report import Report
from tests.conftest import free_port, stop
from tests.proxy.cloud import Authority, Cloud, always, slow
from tests.proxy.house import Proxy, Pusher, run_proxy, running_function, token_files

KINDS = ("nginx", "caddy")
POLLS = 200


@contextlib.contextmanager
def nothing_said(port: int) -> Iterator[None]:
    """Something that takes connections and never says a word, not even of TLS."""
    with socket.create_server(("127.0.0.1", port), backlog=1000):
        yield


@contextlib.contextmanager
def packets_lost(port: int) -> Iterator[None]:
    """A full queue: Linux drops every further packet that would open a connection, as a dead line does."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(socket.create_server(("127.0.0.1", port), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield


@contextlib.contextmanager
def failing(cloud: Cloud, how: str) -> Iterator[None]:
    """The cloud fails, until the block ends."""
    if how in ("hangs", "answers 503"):
        cloud.fault = slow if how == "hangs" else always(503)
        yield
        cloud.fault = None
        return
    cloud.refuse()
    places: dict[str, Callable[[int], Any]] = {"takes, says nothing": nothing_said, "packets lost": packets_lost}
    with places[how](cloud.port) if how in places else contextlib.nullcontext():
        yield
    cloud.start()


FAILURES = ("refuses", "answers 503", "hangs", "takes, says nothing", "packets lost")
IN_SHORT = ("answers 503", "refuses", "hangs")


def wait_for(proxy: Proxy, who: str) -> None:
    while proxy.ask().headers.get("x-answered-by") != who:
        time.sleep(0.2)


def fail_over(proxy: Proxy, cloud: Cloud, how: str) -> dict[str, Any]:
    """One failure, from a cloud that answers until it answers again."""
    wait_for(proxy, "cloud")
    took_s = []
    with failing(cloud, how):
        failed_at = time.monotonic()
        while True:
            answer = proxy.ask()
            took_s.append(answer.took_s)
            assert answer.status == 200, answer
            if answer.headers["x-answered-by"] == "pusher":
                break
        first_local_s = time.monotonic() - failed_at
        meanwhile_s = [proxy.ask().took_s for _ in range(20)]
    return {
        "failure_to_first_local_answer_s": round(first_local_s, 3),
        "slowest_answer_s": round(max(*took_s, *meanwhile_s), 3),
        "poll_while_it_lasts_ms": round(1000 * statistics.median(meanwhile_s), 2),
    }


def poll_ms(proxy: Proxy) -> dict[str, float]:
    """What a poll takes; a connection of its own each, as the wallbox does it."""
    took = sorted(1000 * proxy.ask().took_s for _ in range(POLLS))
    return {"p50": round(took[POLLS // 2], 2), "p99": round(took[POLLS * 99 // 100], 2)}


def measure(report: Report) -> None:
    """Both kinds, the failures in short."""
    for kind, found in measured(IN_SHORT, edge_first=False).items():
        report.figure(f"{kind}: a poll of the cloud, p50", found["poll_of_the_cloud_ms"]["p50"], "ms")
        for how, seen in found["failures"].items():
            first_s = seen["failure_to_first_local_answer_s"]
            report.figure(f"{kind}, the cloud {how}: from then to the first local answer", first_s, "s")
            report.figure(f"{kind}, the cloud {how}: a poll while it lasts", seen["poll_while_it_lasts_ms"], "ms")


def measured(failures: Sequence[str], *, edge_first: bool) -> dict[str, Any]:
    """Both kinds, these failures."""
    results: dict[str, Any] = {}
    started: list[subprocess.Popen[bytes]] = []

    def processes(*words: object, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(subprocess.Popen([str(word) for word in words], start_new_session=True, **options))
        return started[-1]

    with tempfile.TemporaryDirectory() as name, running_function(Path(name)) as function:
        folder = Path(name)
        tokens = token_files(function, folder)
        pusher = Pusher(folder / "pusher", function.url, tokens["push"])
        authority = Authority(folder)
        cloud = Cloud(function.url, authority.context("localhost"))
        usual = {
            "cloud": f"https://localhost:{cloud.port}",
            "token_file": tokens["read"],
            "socket": pusher.socket,
            "ca": authority.file,
        }
        try:
            for kind in KINDS:
                listen = [f"127.0.0.1:{free_port()}" for _ in range(2)]
                proxy = run_proxy(folder, processes, kind, listen=listen[0], **usual)
                wait_for(proxy, "cloud")
                results[kind] = {"poll_of_the_cloud_ms": poll_ms(proxy)}
                results[kind]["failures"] = {how: fail_over(proxy, cloud, how) for how in failures}
                if not edge_first:
                    continue
                edge = run_proxy(folder, processes, kind, "--edge-first", listen=listen[1], **usual)
                results[kind]["poll_with_edge_first_ms"] = poll_ms(edge)
        finally:
            for process in reversed(started):
                stop(process)
            cloud.close()
            pusher.close()
    return results


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, help="file for the JSON; default: standard output")
    out = parser.parse_args().out
    text = json.dumps({"proxy_failover": measured(FAILURES, edge_first=True)}, indent=2) + "\n"
    out.write_text(text) if out else sys.stdout.write(text)


if __name__ == "__main__":
    main()
