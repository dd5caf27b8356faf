"""What a crowd of wallboxes costs: a request to the cloud per second, and one read of its store."""

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from function.stores import open_store
from tests.conftest import free_port
from tests.function.conftest import serving
from tests.proxy.cloud import Authority, Cloud
from tests.proxy.house import Processes, Proxy, run_proxy
from tests.proxy.wallbox import Answer

WALLBOXES = 20


async def test_twenty_wallboxes_cost_one_request_and_one_read_per_second(
    kind: str, authority: Authority, tmp_path: Path, processes: Processes
) -> None:
    store: Any = open_store(f"sqlite:{tmp_path / 'cloud.db'}")
    reads = count_reads(store)
    async with serving(store) as function:
        await function.post_live({"energy_meters": {"0": {"grid_power_w": 1}}})
        cloud = Cloud(function.url, authority.context("localhost"))
        try:
            proxy = await asyncio.to_thread(
                start, kind, cloud, function.token(scope="read"), authority, tmp_path, processes
            )
            begun = time.time()
            reads.clear()
            polls = await asyncio.to_thread(crowd, proxy)
            seconds = int(time.time()) - int(begun) + 1
        finally:
            cloud.close()
    await store.close()
    assert 0 < len(reads) <= seconds
    assert 0 < len(cloud.asked) <= seconds < polls


def count_reads(store: Any) -> list[str]:
    """The names of the sites that are read from now on."""
    names: list[str] = []
    load = store.load

    async def counted(name: str) -> Any:
        names.append(name)
        return await load(name)

    store.load = counted
    return names


def start(kind: str, cloud: Cloud, token: str, authority: Authority, tmp_path: Path, processes: Processes) -> Proxy:
    token_file = tmp_path / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    return run_proxy(
        tmp_path, processes, kind, listen=f"127.0.0.1:{free_port()}", cloud=f"https://localhost:{cloud.port}",
        token_file=token_file, ca=authority.file, socket=tmp_path / "no-pusher.sock",
    )  # fmt: skip


def crowd(proxy: Proxy) -> int:
    """Twenty wallboxes ask at once, and again, and again; how often. Each gets values from the cloud, each time."""
    answers: list[Answer] = []
    with ThreadPoolExecutor(WALLBOXES) as wallboxes:
        for _ in range(8):
            answers += wallboxes.map(lambda _: proxy.ask(), range(WALLBOXES))
            time.sleep(0.25)  # the wallboxes' pause; more than fifty polls a second are too many for the function
    assert {(answer.status, answer.headers["x-answered-by"]) for answer in answers} == {(200, "cloud")}
    return len(answers)
