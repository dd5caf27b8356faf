"""`nrgkick-cloud sites`: look at sites, set them, take them out, over either store and without a server.

Tables for people, `--json` for machines. What is set here obeys the same rules as over HTTP.
"""

import asyncio
import json
import re
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError

from function.sites import Sites
from function.stores import Store, StoreUnavailable, open_store
from schemas.overview import SiteOverview, SiteSummary, overview, summarise
from schemas.problem import explain
from schemas.render import documents
from schemas.site import EVERY_CATEGORY, NAME_PATTERN, Member, Settings, SettingsPut, Site, settled, tombstone
from schemas.times import format_time

__all__ = ["app", "end", "run", "store_address"]

T = TypeVar("T")

app = typer.Typer(
    help="Look at the sites of a store, set them, take them out. Needs no server.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

STORE_HELP = "firestore, or sqlite:PATH; default: $NRGKICK_STORE, else sqlite:nrgkick.db"
StoreOption = Annotated[str | None, typer.Option("--store", help=STORE_HELP, show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
SiteArgument = Annotated[str, typer.Argument(help="Name of the site.")]
PAGE = 200


def end(message: str) -> NoReturn:
    """Say what is wrong and what to do, and end with status 2."""
    typer.echo(f"nrgkick-cloud: {message}", err=True)
    raise typer.Exit(2)


def store_address(store: str | None) -> str:
    """The store that is meant."""
    from function.main import default_store

    return store or default_store()


def run(store: str | None, work: Callable[[Sites], Awaitable[T]]) -> T:
    """Run `work` on the sites of a store; what goes wrong is said in a line."""

    async def whole() -> T:
        opened: Store = open_store(store_address(store))
        try:
            return await work(Sites(opened))
        finally:
            await opened.close()

    try:
        return asyncio.run(whole())
    except (StoreUnavailable, ValueError) as error:
        end(str(error))


@app.command("list")
def list_sites(*, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """All sites: who is live, partial or stale, with power and token generation."""

    async def work(sites: Sites) -> list[tuple[SiteSummary, Settings]]:
        found: list[tuple[SiteSummary, Settings]] = []
        after, now = "", datetime.now(UTC)
        while page := await sites.store.page(after, PAGE):
            after = page[-1][0]
            for name, site in page:
                if not site.deleted:
                    _, house = await sites.house(name)
                    found.append((summarise(name, site, house, now), site.settings))
        return found

    rows = run(store, work)
    if as_json:
        listed = [summary.model_dump(mode="json") for summary, _ in rows]
        for document, (_, settings) in zip(listed, rows, strict=True):
            document["token_generation"] = settings.token_generation
        typer.echo(json.dumps(listed, indent=2, ensure_ascii=False))
        return
    if not rows:
        typer.echo("No site yet. A site begins with its first live post, or with: nrgkick-cloud sites set NAME")
        return
    lines = [
        [
            it.site, it.name, it.status, _ago(it.updated_at), _watts(it.power.pv_w), _watts(it.power.grid_w),
            _watts(it.power.battery_w), _watts(it.power.load_w), "-" if it.soc is None else f"{it.soc:.0f} %",
            str(settings.token_generation),
        ]
        for it, settings in rows
    ]  # fmt: skip
    _table(("site", "name", "status", "heard of", "sun", "grid", "battery", "load", "soc", "generation"), lines)


@app.command()
def show(site: SiteArgument, *, store: StoreOption = None, as_json: JsonOption = False) -> None:
    """One site: its devices with age and claimants, its settings, what its wallbox was told."""
    found = run(store, lambda sites: _overview(sites, site))
    if as_json:
        typer.echo(found.model_dump_json(indent=2))
        return
    typer.echo(f"{found.site} {found.name} is {found.status}; last heard of {_ago(found.updated_at)}")
    if found.why:
        typer.echo(f"The wallbox is told nothing, or no surplus: {found.why}")
    lines = [
        [
            device.category if device.index is None else f"{device.category} {device.index}", device.name or "",
            "fresh" if device.fresh else ("withdrawn" if device.withdrawn else "stale"), _ago(device.measured_at),
            ", ".join(f"{key}={value}" for key, value in (device.values or {}).items()), device.pusher,
            ", ".join(conflict.pusher for conflict in device.conflicts),
        ]
        for device in found.devices
    ]  # fmt: skip
    _table(("device", "name", "state", "read", "values", "pusher", "also claimed by"), lines)
    asked = found.wallbox
    typer.echo(
        f"The wallbox last asked {_ago(asked.at)} and was told {asked.status}."
        if asked
        else "No wallbox has asked yet."
    )
    typer.echo(
        "Settings: "
        + ", ".join(f"{name}={value}" for name, value in json.loads(found.settings.model_dump_json()).items())
    )


@app.command("set")
def set_site(
    site: SiteArgument,
    *,
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    timezone: Annotated[str | None, typer.Option(help="IANA zone, such as Europe/Vienna; days begin there.")] = None,
    stale_after_s: Annotated[int | None, typer.Option(help="How long values count as fresh, 1 to 3600 s.")] = None,
    on_stale: Annotated[str | None, typer.Option(help="unavailable, or no_surplus.")] = None,
    retention_days: Annotated[int | None, typer.Option(help="How long rows are kept.")] = None,
    token_generation: Annotated[int | None, typer.Option(help="Refuse tokens of an older generation.")] = None,
    revoke: Annotated[bool, typer.Option("--revoke", help="Raise the token generation by one.")] = False,
    member: Annotated[
        list[str] | None,
        typer.Option(help="Make it a composite: SITE, or SITE:inverters,batteries for some categories. Repeat."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Change some settings of a site, or make it; what is not named stays as it is.

    Example: nrgkick-cloud sites set home --timezone Europe/Vienna --on-stale no_surplus
    """
    if not re.fullmatch(NAME_PATTERN, site):
        end(f'"{site}" is no name of a site; use a-z, 0-9 and hyphens, at most 63')
    given: dict[str, Any] = {
        "name": name, "timezone": timezone, "stale_after_s": stale_after_s, "on_stale": on_stale,
        "retention_days": retention_days, "token_generation": token_generation,
        "members": [_member(text) for text in member] if member else None,
    }  # fmt: skip
    given = {key: value for key, value in given.items() if value is not None}

    async def work(sites: Sites) -> Settings:
        await sites.check_members(site, given.get("members", ()))

        def decide(before: Site, _exists: bool) -> Site:
            raised = {"token_generation": before.settings.token_generation + 1} if revoke else {}
            try:
                unchanged = dict(before.settings) | {"token_generation": None}
                wanted = SettingsPut.model_validate(unchanged | given | raised)
            except ValidationError as error:
                first = explain(error, SettingsPut)[0]
                raise ValueError(f"--{str(first.loc[0]).replace('_', '-')}: {first.msg}") from None
            return before.model_copy(update={"settings": settled(wanted, before.settings)})

        return (await sites.change(site, decide, datetime.now(UTC))).site.settings

    settings = run(store, work)
    typer.echo(
        f"{site}: " + ", ".join(f"{key}={value}" for key, value in json.loads(settings.model_dump_json()).items())
    )
    if revoke or token_generation is not None:
        typer.echo(
            f"Tokens of a generation below {settings.token_generation} are refused within a minute; make new ones:\n"
            f"  nrgkick-cloud token --site {site} --scope push --generation {settings.token_generation}"
        )


@app.command()
def export(
    site: SiteArgument,
    *,
    out: Annotated[Path | None, typer.Option(help="File to write; default: standard output.")] = None,
    store: StoreOption = None,
) -> None:
    """Write a site and its rows as JSON lines: first the site, then a row a line, oldest day first."""
    from rich.console import Console

    console = Console(stderr=True)

    async def work(sites: Sites) -> int:
        from function.migration import days_of

        copy = await sites.get(site)
        if not copy.exists:
            raise ValueError(f'there is no site "{site}"; `nrgkick-cloud sites list` shows those that there are')
        lines = 0
        with out.open("w", encoding="utf-8") if out else sys.stdout as file, console.status("reading ...") as status:
            file.write(json.dumps({"site": site, "state": json.loads(copy.site.model_dump_json())}) + "\n")
            async for day, rows in days_of(sites.store, site):
                status.update(f"{site}: {day}, {lines} rows")
                for it in sorted(rows, key=lambda it: (it.row.measured_at, it.pusher)):
                    row = json.loads(it.row.model_dump_json(exclude_unset=True))
                    file.write(json.dumps({"pusher": it.pusher, **row}) + "\n")
                    lines += 1
        return lines

    console.print(f"{run(store, work)} rows of {site} written")


@app.command()
def forget(
    site: SiteArgument, pusher: Annotated[str, typer.Argument(help="Name of the pusher.")], *, store: StoreOption = None
) -> None:
    """Forget what a pusher that is gone, or was renamed, has said of a site's devices. Its history stays."""

    async def work(sites: Sites) -> None:
        def decide(before: Site, _exists: bool) -> Site:
            if pusher not in before.pushers:
                known = ", ".join(sorted(before.pushers)) or "none"
                raise ValueError(f'{site} knows no pusher "{pusher}"; known: {known}')
            rest = {name: said for name, said in before.pushers.items() if name != pusher}
            return before.model_copy(update={"pushers": rest})

        await sites.change(site, decide, datetime.now(UTC))

    run(store, work)
    typer.echo(f"{site} no longer knows {pusher}")


@app.command()
def delete(
    site: SiteArgument,
    *,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove a site with all its history, and revoke its tokens. There is no way back; `export` first."""
    if not yes:
        typer.confirm(f"Remove {site} with all its history from {store_address(store)}?", abort=True)

    async def work(sites: Sites) -> None:
        def decide(before: Site, exists: bool) -> Site:
            if not exists:
                raise ValueError(f'there is no site "{site}"; `nrgkick-cloud sites list` shows those that there are')
            return tombstone(before)

        await sites.store.forget(site)  # first, so that a failure can be tried again
        await sites.change(site, decide, datetime.now(UTC))
        await sites.store.forget(site)  # what came in meanwhile

    run(store, work)
    typer.echo(f"{site} is removed; its tokens are refused within a minute")


async def _overview(sites: Sites, name: str) -> SiteOverview:
    now = datetime.now(UTC)
    copy, house = await sites.house(name)
    if not copy.exists:
        raise ValueError(f'there is no site "{name}"; `nrgkick-cloud sites list` shows those that there are')
    told = documents(house, now)
    return overview(name, copy.site, house, None if told.detail == "fresh" else told.detail, copy.site.wallbox, now)


def _member(text: str) -> Member:
    site, _, categories = text.partition(":")
    wanted = categories.split(",") if categories else list(EVERY_CATEGORY)
    include = [category for category in EVERY_CATEGORY if category in wanted]
    if len(include) != len(wanted) or not re.fullmatch(NAME_PATTERN, site):
        end(f'--member "{text}": write SITE, or SITE: and some of {",".join(EVERY_CATEGORY)}')
    return Member(site=site, include=include)


def _table(headings: tuple[str, ...], lines: list[list[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings)
    colours = {"live": "green", "fresh": "green", "partial": "yellow", "stale": "red", "withdrawn": "red"}
    for line in lines:
        table.add_row(*(Text(cell, style=colours.get(cell, "")) for cell in line))
    Console().print(table)


def _listed(settings: Settings) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.model_dump(mode="json").items())


def _watts(power_w: int | None) -> str:
    return "-" if power_w is None else f"{power_w} W"


def _ago(time: datetime | None) -> str:
    if time is None:
        return "never"
    seconds = (datetime.now(UTC) - time).total_seconds()
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{seconds / size:.0f} {unit} ago"
    return format_time(time)
