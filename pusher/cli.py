"""`nrgkick-pusher`: the command line. Says what happened in words; exit code 0 only if all is well.

Commands import what they need when they are called, so that the daemon carries none of it.
"""

import asyncio
import errno
import json
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pusher import VERSION
from pusher.config_file import default_path, load_config
from pusher.proxy.command import proxy_command
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
        typer.echo(VERSION)
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
    if not once:
        path = config or default_path()
        if not path.exists():
            _config(path)
        _become_daemon(path)
    _, loaded = _config(config)
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


@app.command()
def devices(
    name: Annotated[str | None, typer.Argument(help="Show this template's parameters and sources.")] = None,
    *,
    config: ConfigOption = None,
) -> None:
    """List the device templates, or explain one of them."""
    from pusher.tables import show, template_list, template_page
    from pusher.templates import TemplateError, load_template, template_names

    folder = (config or default_path()).parent
    try:
        if name is not None:
            show(*template_page(name, load_template(name, folder)))
            return
        show(template_list({name: load_template(name, folder) for name in template_names(folder)}))
    except TemplateError as error:
        raise _fail(str(error)) from None


@app.command()
def dump(
    device: Annotated[str, typer.Argument(help='Its name, or as "inverter:0".')],
    *,
    config: ConfigOption = None,
) -> None:
    """Print what a device answers, without addresses, serials and tokens: for a report, or as a test."""
    from pusher.config import role_title
    from pusher.dump import record, recorded_yaml

    path, loaded = _config(config)
    for one in loaded.devices:
        title = role_title(one.category, one.index)
        if device.lower().replace(":", " ").replace("_", " ") in (
            one.title.lower(),
            title,
            title.removeprefix("house "),
        ):
            break
    else:
        raise _fail(f'there is no device "{device}"; there are: {", ".join(one.title for one in loaded.devices)}')
    read, recorder = asyncio.run(record(one, path.parent, _quiet_log()))
    if not recorder.case():
        raise _fail(f"{one.title} gave nothing to record: {read.error or 'its source asks no device'}")
    typer.echo(recorded_yaml(read, recorder), nl=False)
    if read.error:
        raise _fail(f"{one.title}: {read.error}")


@app.command()
def init(
    *,
    url: Annotated[str | None, typer.Option(help="Where the cloud function is.")] = None,
    token_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File that holds the push token.")] = None,
    pusher: Annotated[str | None, typer.Option(help="This pusher's name; default: the host's.")] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(metavar="ROLE:INDEX=TEMPLATE,PARAMETER=VALUE...", help="A device; may be given several times."),
    ] = None,
    state_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: /var/lib/nrgkick-pusher.")] = None,
    run_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Default: /run/nrgkick-pusher.")] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write.")] = Path("pusher.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Also over a file, or if a device fails.")] = False,
) -> None:
    """Ask for the cloud and the devices, try each at once, and write a commented configuration."""
    from pusher import questions, wizard
    from pusher.tables import readings_table, show

    if out.exists() and not force:
        raise _fail(f"{out} exists already; name another file with --out, or write over it with --force")
    folder = out.parent
    try:
        devices = wizard.parse_devices(device or (), folder)
        wizard.judged_answers(wizard.Answers("", out, None, pusher, state_dir, run_dir), folder)
        answers = questions.ask_cloud(url, token_file, folder, typer.prompt, force=force)
        answers.pusher, answers.state_dir, answers.run_dir, answers.devices = pusher, state_dir, run_dir, devices
        for one in devices:
            read = asyncio.run(wizard.try_device(one, folder, _quiet_log()))
            show(readings_table([read]))
            if read.error and not force:
                raise _fail("a device cannot be read; correct it, or write the file all the same with --force")
        if not devices:
            questions.ask_devices(answers, folder, _quiet_log(), typer.prompt)
        if not answers.devices:
            raise _fail("no device, no configuration: nothing was written")
        wizard.write_configuration(answers, out)
    except ValueError as error:
        raise _fail(str(error)) from None
    typer.echo(f'wrote {out}; try it with "nrgkick-pusher check --online", then "nrgkick-pusher run"')


SIMULATED = """\
cloud: {{url: {url}, token_file: {token_file}}}
pusher: {pusher}
state_dir: {folder}
run_dir: {folder}
archive: {{every: 10s, send_every: 30s}}
devices:
  - inverter: 0
    info: {{name: Simulated roof}}
    simulated: {{}}
  - energy_meter: 0
    info: {{name: Simulated grid, location: 1}}
    simulated: {{}}
  - battery: 0
    info: {{name: Simulated battery}}
    simulated: {{}}
"""


@app.command()
def simulate(
    *,
    token_file: Annotated[Path, typer.Option(metavar="FILE", help="File that holds a push token.")],
    url: Annotated[str, typer.Option(help="Where the cloud function is.")] = "http://127.0.0.1:8080",
    pusher: Annotated[str, typer.Option(help="This pusher's name.")] = "simulated",
    folder: Annotated[Path, typer.Option(metavar="DIR", help="For its files.")] = Path("nrgkick-simulated"),
) -> None:
    """Run without hardware: a plausible day of sun, house and battery."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pusher.yaml"
    texts = {"url": url, "token_file": str(token_file.absolute()), "folder": str(folder.absolute()), "pusher": pusher}
    path.write_text(SIMULATED.format(**{key: json.dumps(text) for key, text in texts.items()}), encoding="utf-8")
    _become_daemon(_config(path)[0])


@app.command()
def service(
    *,
    config: ConfigOption = None,
    install: Annotated[bool, typer.Option("--install", help="Write, enable and start it (needs root).")] = False,
) -> None:
    """Print the hardened systemd unit for this configuration, or install it."""
    from pusher.service import UNIT_NAME, InstallError, unit_text
    from pusher.service import install as install_unit

    path, loaded = _config(config)
    program = Path(sys.argv[0]).absolute()
    unit = unit_text(path.absolute(), loaded, program)
    if not install:
        typer.echo(unit, nl=False)
        typer.echo(f"# To install it as {UNIT_NAME}: sudo {program} service --install --config {path}", err=True)
        return
    try:
        for done in install_unit(unit, path.absolute(), loaded, program):
            typer.echo(done)
    except (InstallError, OSError) as error:
        raise _fail(str(error)) from None


def _become_daemon(path: Path) -> None:
    """Become the daemon: a fresh interpreter in this same process, without the command line's libraries in memory."""
    from pusher.bytecode import daemon_command

    sys.stdout.flush()
    os.environ.setdefault("MALLOC_ARENA_MAX", "1")
    os.execv(sys.executable, daemon_command(path))  # noqa: S606 - ourselves


def _quiet_log() -> "StateLog":
    """For commands that show what went wrong themselves."""
    from pusher.state_log import StateLog

    log = logging.getLogger("pusher")
    log.setLevel(logging.ERROR)
    return StateLog(log)


def main() -> None:
    """Entry point of the console script. A file that is in the way ends it with the file's name."""
    try:
        app()
    except OSError as error:
        if error.filename is not None:
            sys.exit(f"{error.filename}: {error.strerror}; choose another place, or call this as a user who may")
        if error.errno not in (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EFBIG):
            raise
        # Nothing else that is written has no name. What is still buffered would fail again at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"what this has to say cannot be written: {error.strerror}")


if TYPE_CHECKING:
    from pusher.state_log import StateLog
