"""Programs of the owner's that read a device: what they print, JSON or a number, holds the values.

The program is started anew at each read, without a shell, with an environment of its own (the pusher's may hold a
token) and in a process group of its own, which is killed at the end whatever happened: nothing it started lives on.
"""

import asyncio
import json
import os
import shlex
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from pusher.clock import monotonic_s
from pusher.sources import Reading, Shared, Source, SourceError
from pusher.sources.conversion import look_up, shown
from pusher.sources.values import JsonValue, ValueOptions

__all__ = ["Options", "open_source"]

OUTPUT_LIMIT_BYTES = 1 << 20
_REAP_WITHIN_S = 2.0
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")


def _words(given: Any) -> Any:
    return shlex.split(given) if isinstance(given, str) else given


class Options(ValueOptions[JsonValue]):
    """`run` and `values`; a program that prints one number has the path "@"."""

    run: Annotated[list[str], BeforeValidator(_words)] = Field(
        min_length=1, description="the program and its arguments; no shell reads them"
    )
    environment: dict[str, str] = Field({}, description="further environment variables")


@dataclass(frozen=True, slots=True)
class _Command:
    options: Options
    category: str

    async def read(self) -> Reading:
        begun_at_s = monotonic_s()
        document = _parsed(self.options.run[0], await self._output())
        values = self.options.assemble(self.category, lambda _, value: look_up(value.path or "@", document))
        return Reading(values, begun_at_s)

    async def close(self) -> None:
        """Nothing outlives a read."""

    async def _output(self) -> bytes:
        program = self.options.run[0]
        kept = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        try:
            process = await asyncio.create_subprocess_exec(
                *self.options.run,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=kept | self.options.environment,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "its name or an argument holds a zero byte"
            raise SourceError(f"{program} cannot be started: {reason}") from error
        readers = [asyncio.ensure_future(_bounded(program, stream)) for stream in (process.stdout, process.stderr)]
        try:
            output, complaint = await asyncio.gather(*readers)
            status = await process.wait()
        finally:
            for reader in readers:
                reader.cancel()
            await asyncio.gather(*readers, return_exceptions=True)
            await _end(process)
        if status != 0:
            said = f": {shown(complaint.decode(errors='replace').strip())}" if complaint.strip() else ""
            raise SourceError(f"{program} ended with status {status}{said}")
        return output


async def _bounded(program: str, stream: asyncio.StreamReader | None) -> bytes:
    output = bytearray()
    while stream is not None and (part := await stream.read(65_536)):
        output += part
        if len(output) > OUTPUT_LIMIT_BYTES:
            raise SourceError(f"{program} prints more than {OUTPUT_LIMIT_BYTES} bytes")
    return bytes(output)


async def _end(process: asyncio.subprocess.Process) -> None:
    """Kill the whole group, the program's children too, and reap the program."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(TimeoutError):
        async with asyncio.timeout(_REAP_WITHIN_S):
            await process.communicate()


def _parsed(program: str, output: bytes) -> Any:
    try:
        return json.loads(output)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{program} prints neither JSON nor a number: {shown(output.strip())}") from error


def open_source(options: Options, category: str, shared: Shared) -> Source:  # noqa: ARG001 - nothing to share
    """Open a device of `category`; raises ValueError if the values are not ones of such a device."""
    options.fit(category)
    return _Command(options, category)
