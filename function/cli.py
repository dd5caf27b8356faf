"""`nrgkick-cloud`: run the function on a machine of one's own, make tokens.

Commands work on the store directly and need no server. A token is the only thing that ever goes to stdout alone.
"""

import os
import re
import resource
import sys
from datetime import UTC, datetime, timedelta
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Annotated

import typer

from function import sites_cli
from function.sites_cli import StoreOption, end
from schemas.site import NAME_PATTERN

__all__ = ["app", "main"]

app = typer.Typer(
    name="nrgkick-cloud",
    help="The cloud side of nrgkick-cloud: serves the wallbox's documents, makes tokens.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

KEEP_ALIVE_S = 75
"""How long an idle connection stays open: longer than a proxy keeps one, so that it is the proxy that closes."""

GRACEFUL_S = 10
"""How long an end waits for answers under way: longer than any change takes, however long a client does not read."""

app.add_typer(sites_cli.app, name="sites")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"nrgkick-cloud {installed_version('nrgkick-cloud')}")
        raise typer.Exit


@app.callback()
def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets the LAN in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen on.")] = 8080,
    store: StoreOption = None,
    site: Annotated[
        str | None, typer.Option(help="Serve this site's two documents to everybody, without a token.")
    ] = None,
) -> None:
    """Run the function here, under the framework that Google runs it under.

    Example: nrgkick-cloud serve --store sqlite:home.db --site home
    """
    from function import main as function_main
    from function.stores import StoreUnavailable

    if store:
        os.environ["NRGKICK_STORE"] = store
    if site:
        os.environ["NRGKICK_DEFAULT_SITE"] = site
    try:
        function_main.build(function_main.default_store(), os.environ.get("NRGKICK_DEFAULT_SITE"))
    except (ValueError, StoreUnavailable) as error:
        end(str(error))
    _listenable(host, port)
    import functions_framework._http
    from functions_framework.aio import create_asgi_app

    from function.connections import raise_descriptor_limit

    raise_descriptor_limit()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a crash leaves no keys on the disk
    application = create_asgi_app("nrgkick", str(Path(function_main.__file__)))
    typer.echo(
        f"nrgkick-cloud listens on http://{host}:{port} with {function_main.default_store()}; end it with Ctrl-C"
    )
    sys.stdout.flush()
    server = functions_framework._http.create_server(  # noqa: SLF001 - what the framework's own command calls
        application,
        debug=False,
        workers=1,
        worker_class="function.worker.Worker",
        keepalive=KEEP_ALIVE_S,
        graceful_timeout=GRACEFUL_S,
    )
    server.run(host, port)


def _listenable(host: str, port: int) -> None:
    """Say now, in one line, what gunicorn would retry and then report in many."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            end(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port")


@app.command()
def token(
    site: Annotated[str, typer.Option(help='Name of the site, or "*" for every site.')],
    scope: Annotated[str, typer.Option(help="push, read, fleet or admin.")],
    generation: Annotated[int, typer.Option(min=0, help="Must be at least the site's token generation.")] = 0,
    expires: Annotated[
        str | None, typer.Option(help='How long it counts, such as 12h or 30d; default: for ever, but not for "*".')
    ] = None,
    store: StoreOption = None,
) -> None:
    """Make a token and print it, alone.

    Signs with $NRGKICK_SIGNING_KEY, else with the key that an embedded store keeps for itself.
    Example: nrgkick-cloud token --site home --scope push --store sqlite:home.db > token
    """
    from function.main import default_store, keyring_for
    from function.stores import StoreUnavailable, open_store
    from function.tokens import Keyring

    if site != "*" and not re.fullmatch(NAME_PATTERN, site):
        end(f'"{site}" is no name of a site; use a-z, 0-9 and hyphens, at most 63')
    try:
        keyring = Keyring.from_environment() or keyring_for(open_store(store or default_store()))
        made = keyring.make(site, scope, datetime.now(UTC), generation=generation, expires=_duration(expires))
    except (ValueError, StoreUnavailable) as error:
        end(str(error))
    typer.echo(made)


def _duration(text: str | None) -> timedelta | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6})([smhd])", text)
    if not match:
        end(f'--expires "{text}" is no duration; write it as 30d, 12h, 90m or 600s')
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[match[2]]
    return timedelta(**{unit: int(match[1])})


@app.command()
def migrate(
    source: Annotated[str, typer.Option("--from", help="Store to take from, such as sqlite:home.db.")],
    target: Annotated[str, typer.Option("--to", help="Store to bring to, such as firestore.")],
    done: Annotated[Path, typer.Option(help="File that remembers what is done, so that a second call goes on.")] = Path(
        "nrgkick-migrate.json"
    ),
) -> None:
    """Take all sites with their history to another store; call it again to go on where it was broken off.

    Tokens are not taken along: give the function that uses the new store the same signing key, or make new tokens.
    Example: nrgkick-cloud migrate --from sqlite:home.db --to firestore
    """
    import asyncio

    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    from function.migration import Migration
    from function.stores import StoreUnavailable, open_store

    async def work() -> None:
        stores = open_store(source), open_store(target)
        try:
            migration = Migration(*stores, done)
            sites = await migration.sites()
            columns = (*Progress.get_default_columns()[:2], TextColumn("{task.fields[at]}"), TimeElapsedColumn())
            with Progress(*columns) as progress:
                task = progress.add_task("sites", total=len(sites), at="")
                for name, site in sites:
                    rows = await migration.take(
                        name, site, lambda it, day, count: progress.update(task, at=f"{it} {day} {count} rows")
                    )
                    progress.update(task, advance=1, at=f"{name}: {rows} rows")
        finally:
            for store in stores:
                await store.close()
        typer.echo(f"{len(sites)} sites are in {target}; {done} may be removed")

    if source == target:
        end("--from and --to are the same store")
    try:
        asyncio.run(work())
    except (StoreUnavailable, ValueError) as error:
        end(f"{error}; call it again to go on")
    except KeyboardInterrupt:
        end("broken off; call it again to go on")


def main() -> None:
    """Run the command line."""
    try:
        app()
    except ModuleNotFoundError as error:  # installed for the pusher alone
        remedy = "in the checkout: pip install --require-hashes -r function/requirements.txt"
        sys.stderr.write(f"nrgkick-cloud: {error.name} is missing; {remedy}\n")
        sys.exit(2)
