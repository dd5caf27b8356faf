"""`nrgkick-pusher`: the command line. Says what happened in words; exit code 0 only if all is well.

Commands import what they need when they are called, so that the daemon carries none of it.
"""

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pusher.config_file import default_path, load_config
from pusher.proxy import proxy_command
from pusher.yaml_lines import Mistakes

if TYPE_CHECKING:
    from pusher.config import Config

__all__ = ["app", "main"]

app = typer.Typer(
    name="nrgkick-pusher",
    help="Reads the house's devices and posts them to the cloud function that your NRGkick wallbox asks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Default: ./pusher.yaml, else /etc/nrgkick-pusher/pusher.yaml."),
]


def _fail(message: str) -> typer.Exit:
    """Say what is wrong; to be raised."""
    typer.echo(message, err=True)
    return typer.Exit(1)


def _config(path: Path | None) -> "tuple[Path, Config]":
    """The configuration, or an end with everything that is wrong in it."""
    path = path or default_path()
    if not path.exists():
        raise _fail(f'there is no configuration at {path}; make one with "nrgkick-pusher init", or name it: --config')
    try:
        return path, load_config(path)
    except Mistakes as mistakes:
        count = len(mistakes.found)
        raise _fail(f"{mistakes}\n{count} mistake{'s' if count > 1 else ''}") from None


def _version(asked: bool) -> None:
    if asked:
        from pusher.status import version

        typer.echo(version())
        raise typer.Exit


@app.callback()
def _root(
    *, version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False
) -> None:
    pass


@app.command()
def run(
    *,
    config: ConfigOption = None,
    once: Annotated[bool, typer.Option("--once", help="Read each device once, post both lanes, and exit.")] = False,
) -> None:
    """Read the devices and post them, for ever."""
    path, loaded = _config(config)
    if not once:
        # The daemon is a fresh interpreter in this same process, without the command line's libraries in memory.
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, "-P", "-m", "pusher.daemon", str(path)])  # noqa: S606
    from pusher.once import run_once
    from pusher.run import InUse

    try:
        well = asyncio.run(run_once(loaded, _quiet_log(), typer.echo))
    except InUse as error:
        raise _fail(str(error)) from None
    except OSError as error:
        raise _fail(f"cannot run: {error.filename or ''}: {error.strerror or error}") from None
    raise typer.Exit(0 if well else 1)


@app.command()
def check(
    *,
    config: ConfigOption = None,
    online: Annotated[bool, typer.Option("--online", help="Also read each device, and ask the cloud.")] = False,
) -> None:
    """Name every mistake in the configuration at once; with --online also try the devices and the token."""
    path, loaded = _config(config)
    typer.echo(f"{path}: in order, {len(loaded.devices)} devices")
    if online:
        raise typer.Exit(0 if asyncio.run(_check_online(loaded)) else 1)


async def _check_online(config: "Config") -> bool:
    from pusher.once import ask_whoami, read_config
    from pusher.tables import readings_table, show
    from pusher.uplink import UplinkError

    devices = await read_config(config, _quiet_log())
    show(readings_table(devices))
    well = not any(device.error for device in devices)
    try:
        answer = await ask_whoami(config)
    except UplinkError as error:
        typer.echo(f"cloud: {error}")
        return False
    typer.echo(f'cloud: the token is good for site "{answer.site}", scope {answer.scope}')
    if answer.scope != "push" or answer.site == "*":
        typer.echo('cloud: a pusher needs the scope push; make a token with "nrgkick-cloud token --scope push"')
        return False
    return well


@app.command()
def status(
    *,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Ask the running pusher how it does; exit code 0 only if all is well."""
    from pusher.ask import NotRunning, ask_status

    _, loaded = _config(config)
    try:
        document = asyncio.run(ask_status(loaded.socket_path))
    except NotRunning as error:
        raise _fail(str(error)) from None
    if as_json:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        from pusher.tables import show, status_tables

        show(*status_tables(document))
    raise typer.Exit(0 if document["well"] else 1)


app.command("proxy")(proxy_command)


def _quiet_log() -> "StateLog":
    """For commands that show what went wrong themselves."""
    from pusher.state_log import StateLog

    log = logging.getLogger("pusher")
    log.setLevel(logging.ERROR)
    return StateLog(log)


def main() -> None:
    """Entry point of the console script."""
    app()


if TYPE_CHECKING:
    from pusher.state_log import StateLog
