"""What the commands show in a terminal. Texts of devices are escaped before they get there."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table

from pusher.config import role_title
from pusher.readers import Device
from pusher.templates import Template

__all__ = ["readings_table", "show", "show_text", "status_tables", "template_list", "template_page"]


def show(*tables: RenderableType) -> None:
    """Print tables and lines, as wide as the terminal; not cut where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    for table in tables:
        console.print(table)


def show_text(text: str) -> None:
    """Print a text that may come from elsewhere: as it is, without what a terminal would take for a command."""
    Console().print(_plain_lines(text), highlight=False, soft_wrap=True)


def _plain(text: object) -> str:
    """A text without control characters and without markup."""
    return escape("".join(char for char in str(text) if char.isprintable()))


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _values(values: dict[str, Any] | None) -> str:
    return "\n".join(f"{key} = {value}" for key, value in (values or {}).items())


def readings_table(devices: Sequence[Device]) -> Table:
    """What each device gave when it was read once."""
    table = _table("device", "source", "values", "")
    for device in devices:
        newest = device.newest
        table.add_row(
            _plain(f"{role_title(device.config.category, device.config.index)} {device.config.info.get('name', '')}"),
            _plain(device.config.template or device.config.kind),
            _plain_lines(_values(newest.values if newest else None)),
            "[green]read[/]" if device.error is None else f"[red]{_plain(device.error)}[/]",
        )
    return table


def _plain_lines(text: str) -> str:
    return "\n".join(_plain(line) for line in text.splitlines())


def status_tables(status: dict[str, Any]) -> Iterable[RenderableType]:
    """The pusher's `/status` for people."""
    devices = _table("device", "source", "values", "age", "state")
    for device in status["devices"]:
        age = "" if device["age_s"] is None else f"{device['age_s']:.0f} s"
        state = "[green]read[/]" if not device["error"] else f"[red]{_plain(device['error'])}[/]"
        if device["withdrawn"]:
            state += " [red](withdrawn: the wallbox is not shown it)[/]"
        devices.add_row(
            _plain(device["title"]), _plain(device["source"]), _plain_lines(_values(device["values"])), age, state
        )
    yield devices
    live, archive, clock, wallbox = (status[part] for part in ("live", "archive", "clock", "wallbox"))
    lines = _table("", "")
    lines.show_header = False
    lines.add_row("live lane", _plain(live["error"] or _last(live["last_s"])))
    lines.add_row("archive lane", _plain(archive["error"] or _last(archive["last_s"])))
    lines.add_row(
        "outbox",
        f"{archive['rows']} rows, {archive['bytes']} bytes, oldest {archive['oldest'] or '-'}, "
        f"{archive['dropped']} dropped, {archive['dead_letters']} dead letters",
    )
    learnt = "learnt from the function" if clock["known"] else "the host's, for the function has not said it yet"
    lines.add_row("clock", f"{clock['now']}, {learnt}; the host is {clock['host_ahead_s']:+.1f} s off")
    lines.add_row("wallbox reads", _plain(f"{wallbox['status']}: {wallbox['detail']}"))
    if wallbox["device_values"] is not None:
        lines.add_row("", _plain(wallbox["device_values"]))
    yield lines
    yield "[green]all is well[/]" if status["well"] else "\n".join(f"[red]! {_plain(p)}[/]" for p in status["problems"])


def _last(ago_s: float | None) -> str:
    return "nothing sent yet" if ago_s is None else f"last got through {ago_s:.0f} s ago"


def template_list(templates: Mapping[str, Template]) -> Table:
    """The device templates by maker, with what each delivers."""
    table = _table("template", "maker", "product", "delivers")
    for name, template in sorted(templates.items(), key=lambda item: (item[1].maker.lower(), item[0])):
        delivers = ", ".join(template.delivers)
        table.add_row(f"[bold]{_plain(name)}[/]", _plain(template.maker), _plain(template.product), _plain(delivers))
    return table


def template_page(name: str, template: Template) -> Iterable[RenderableType]:
    """One template: what it asks for, what it delivers, and where its facts come from."""
    yield f"[bold]{_plain(name)}[/]: {_plain(template.maker)}, {_plain(template.product)}"
    if template.notes:
        yield _plain_lines(template.notes.strip())
    parameters = _table("parameter", "what it is", "default")
    for key, parameter in template.parameters.items():
        default = "may be left out" if parameter.default is None and parameter.optional else parameter.default
        parameters.add_row(_plain(key), _plain(parameter.help), "needed" if default is None else _plain(default))
    yield parameters
    delivers = _table("delivers", "values", "read by")
    for role, kinds in template.delivers.items():
        for kind, options in kinds.items():
            keys = ", ".join(options.get("values", {})) if isinstance(options, dict) else ""
            delivers.add_row(_plain(role), _plain(keys or "what the device says of itself"), _plain(kind))
    yield delivers
    tried = {"documentation": "checked against documentation only", "device": "tried on the device"}[template.checked]
    yield f"{tried}; sources:"
    for source in template.sources:
        yield _plain(f"  {source}")
