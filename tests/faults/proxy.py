"""Stands between the function and Firestore's emulator and spoils RPCs: late, or with an error, before or after them.

A process of its own: `python -m tests.faults.proxy PORT UPSTREAM SEED`. Each line of JSON on stdin replaces what it
does to RPCs that come after it (`Mischief`; {}: nothing); one that is late already stays late. Each RPC that it spoils
is told as a line on stdout. It forwards bytes and knows nothing of what they mean. An RPC that its caller has given up
goes on to the store all the same, as it may on a real network.
"""

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import grpc

__all__ = ["CODES"]

CODES = ("UNAVAILABLE", "ABORTED", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED")
"""What Firestore may answer although nothing is wrong with the request."""

UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
AT_ONCE_AGAIN = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.max_reconnect_backoff_ms", 100)]
UPSTREAM_TIMEOUT_S = 60
KEPT_BACK = ("user-agent", "te", "content-type", "grpc-accept-encoding")


@dataclass
class Mischief:
    """What is done to RPCs now."""

    share: float = 0.0
    """Of all RPCs, those that end with an error."""
    codes: list[str] = field(default_factory=list)
    when: list[str] = field(default_factory=list)
    """`before`: the store never hears of it; `after`: it took effect, and the answer is lost."""
    delay_s: float = 0.0
    """Added to each RPC, by turns on its way there and on its way back."""
    closed: bool = False
    """Nothing more reaches the store; that nothing is there any more is told as `{"quiet": true}`."""


class Spoiled(Exception):
    """The error that an RPC ends with instead of its answer."""


class Proxy(grpc.GenericRpcHandler):
    """Forwards whatever is called."""

    def __init__(self, upstream: grpc.aio.Channel, seed: str) -> None:
        self._upstream, self._random = upstream, random.Random(seed)
        self._mischief = Mischief()
        self._turns: Counter[str] = Counter()
        self._open = asyncio.Event()
        self._open.set()
        self._at_store: set[asyncio.Task[list[bytes]]] = set()

    async def become(self, mischief: Mischief) -> None:
        """Do this from now on."""
        self._mischief = mischief
        if not mischief.closed:
            self._open.set()
            return
        self._open.clear()
        await asyncio.gather(*self._at_store, return_exceptions=True)
        print(json.dumps({"quiet": True}), flush=True)

    def service(self, details: Any) -> Any:
        """gRPC asks who handles a method: we do, each, as a stream of bytes in and out."""
        method = details.method

        async def forward(requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            metadata = [(key, value) for key, value in context.invocation_metadata() if key not in KEPT_BACK]
            carried = asyncio.create_task(self._carry(method, [it async for it in requests], metadata))
            carried.add_done_callback(lambda task: task.cancelled() or task.exception())
            try:
                answers = await asyncio.shield(carried)
            except Spoiled as spoiled:
                await context.abort(grpc.StatusCode[str(spoiled)], "spoiled on its way")
            except grpc.aio.AioRpcError as error:
                await context.abort(error.code(), error.details())
            for answer in answers:
                yield answer

        return grpc.stream_stream_rpc_method_handler(forward)

    async def _carry(self, method: str, requests: list[bytes], metadata: Any) -> list[bytes]:
        mischief = self._mischief
        code = self._random.choice(mischief.codes) if self._random.random() < mischief.share else None
        when = self._random.choice(mischief.when) if code else ""
        delay_s = mischief.delay_s
        late_there = self._turns[method] % 2 == 0
        self._turns[method] += 1
        if code or delay_s:
            told = {"rpc": method.rpartition("/")[2], "code": code, "when": when, "delay_s": delay_s}
            print(json.dumps({**told, "late": "there" if late_there else "back"}), flush=True)
        if delay_s and late_there:
            await asyncio.sleep(delay_s)
        if code and when == "before":
            raise Spoiled(code)
        answers = await self._asked(method, requests, metadata)
        if delay_s and not late_there:
            await asyncio.sleep(delay_s)
        if code:
            raise Spoiled(code)
        return answers

    async def _asked(self, method: str, requests: list[bytes], metadata: Any) -> list[bytes]:
        """What the store answers."""
        await self._open.wait()
        call = self._upstream.stream_stream(method)(_each(requests), metadata=metadata, timeout=UPSTREAM_TIMEOUT_S)
        asking = asyncio.create_task(_all(call))
        self._at_store.add(asking)
        asking.add_done_callback(self._at_store.discard)
        return await asking


async def _all(answers: AsyncIterator[bytes]) -> list[bytes]:
    return [answer async for answer in answers]


async def _each(requests: list[bytes]) -> AsyncIterator[bytes]:
    for request in requests:
        yield request


async def main(port: str, upstream: str, seed: str) -> None:
    """Forward until stdin ends."""
    async with grpc.aio.insecure_channel(upstream, options=[*UNLIMITED, *AT_ONCE_AGAIN]) as channel:
        proxy = Proxy(channel, seed)
        server = grpc.aio.server(options=[*UNLIMITED, ("grpc.so_reuseport", 0)])
        server.add_generic_rpc_handlers((proxy,))
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        commands = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        while line := await commands.readline():
            await proxy.become(Mischief(**json.loads(line)))
        await server.stop(0)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
