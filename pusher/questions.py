"""What `nrgkick-pusher init` asks: each answer is judged and tried at once, and asked for again if it is wrong.

Nothing is written here. A secret is never shown while it is typed, and never said again.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pusher.config import ROLES, Cloud
from pusher.daemon import new_clock
from pusher.state_log import StateLog
from pusher.tables import readings_table, show, show_text, template_list
from pusher.templates import template_names
from pusher.uplink import Unreachable, Uplink, UplinkError
from pusher.wizard import Answers, DeviceAnswer, judged_token, judged_url, load_one, try_device, typed
from schemas.messages import Whoami

__all__ = ["ask_cloud", "ask_devices"]

Prompt = Callable[..., Any]
"""Asks on the terminal, as `typer.prompt` does."""

_AT_MOST = {"battery": 1, "smart_load": 1, "load": 1, "inverter": 5, "energy_meter": 5}
"""How many devices of a role the wallbox knows; source: design section 5, Limits."""


def ask_cloud(url: str | None, token_file: Path | None, folder: Path, prompt: Prompt, *, force: bool) -> Answers:
    """Where the cloud is and the token, tried together; what is given is not asked for, and cannot be asked again.

    Without a token file the one in `folder` counts, and if there is none the token is asked for. Raises ValueError if
    what was given is wrong, unless `force` takes it all the same.
    """
    if url is not None:
        url = _given("--url", url, judged_url)
    file = (token_file or folder / "token").absolute()
    address, token = url or "", None
    if token_file is None and file.exists():
        show_text(f"the push token is taken from {file}")
    again = False
    while True:
        if url is None:
            address = _asked(prompt, "Where is the cloud function (https://...)", judged_url, address)
        if token_file is None and (again or not file.exists()):
            judged = _token_if_any if again else judged_token
            token = _asked(prompt, "The push token", judged, hide_input=True) or token
        wrong = asyncio.run(_wrong_with(address, file, token))
        if wrong is None:
            return Answers(address, file, token)
        if force:
            show_text(f"warning: {wrong}")
            return Answers(address, file, token)
        if url is not None and token_file is not None:
            raise ValueError(f"{wrong}; correct it, or write the file all the same with --force")
        show_text(f"{wrong}; Enter leaves an answer as it was")
        again = True


def _token_if_any(text: str) -> str:
    return judged_token(text) if text else ""


def _given(option: str, text: str, judged: Callable[[str], str]) -> str:
    try:
        return judged(text)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from None


def _asked(
    prompt: Prompt, question: str, judged: Callable[[str], Any], default: str = "", *, hide_input: bool = False
) -> Any:
    """Ask until the answer is right."""
    while True:
        text = prompt(question, default=default, show_default=bool(default), hide_input=hide_input)
        try:
            return judged(text)
        except ValueError as error:
            show_text(str(error))


async def _wrong_with(url: str, file: Path, token: str | None) -> str | None:
    """Ask the function what the token is good for, and say it; what is wrong, if something is."""
    if token is None:
        try:
            token = Cloud(url=url, token_file=str(file)).read_token()
        except OSError as error:
            return f"{file} cannot be read: {error.strerror}"
        except ValueError as error:
            return str(error)
    known = token
    uplink = Uplink(url, lambda: known, new_clock())
    try:
        answer = await uplink.whoami()
    except Unreachable as gone:
        show_text(f"warning: address and token could not be tried and are taken as they are: {gone}")
        return None
    except UplinkError as error:
        return str(error)
    finally:
        await uplink.close()
    return _unfit(answer)


def _unfit(answer: Whoami) -> str | None:
    show_text(f'the token is good for site "{answer.site}", scope {answer.scope}')
    if answer.scope == "push" and answer.site != "*":
        return None
    return 'a pusher needs a token with the scope push: "nrgkick-cloud token --scope push" makes one'


def ask_devices(answers: Answers, folder: Path, said: StateLog, prompt: Prompt) -> None:
    """Ask for devices until there are no more, trying each at once."""
    while role := prompt(f"A device ({', '.join(ROLES)}; empty: no more)", default="", show_default=False):
        there = sum(device.role == role for device in answers.devices)
        if role not in ROLES:
            show_text(f'there is no "{role}"')
        elif there >= _AT_MOST[role]:
            show_text(f"the wallbox knows no more than {there} of {role}")
        else:
            device = _ask_device(role, there, folder, prompt)
            if device is not None and _kept(device, folder, said, prompt):
                answers.devices.append(device)


def _kept(device: DeviceAnswer, folder: Path, said: StateLog, prompt: Prompt) -> bool:
    try:
        read = asyncio.run(try_device(device, folder, said))
    except ValueError as error:
        show_text(str(error))
        return False
    show(readings_table([read]))
    return bool(prompt("Keep it? (y/n)", default="n" if read.error else "y").lower().startswith("y"))


def _ask_device(role: str, index: int, folder: Path, prompt: Prompt) -> DeviceAnswer | None:
    templates = {name: load_one(name, folder) for name in template_names(folder)}
    fitting = {name: template for name, template in templates.items() if role in template.delivers}
    show(template_list(fitting))
    name = prompt("Template", default=min(fitting))
    if name not in fitting:
        show_text(f'no template "{name}" delivers {role}')
        return None
    template = fitting[name]
    given: dict[str, str] = {}
    for key, parameter in template.parameters.items():
        default = "" if parameter.default is None else str(parameter.default)
        secret = parameter.type == "secret"
        shown = bool(default) and not secret
        text = prompt(f"{key} ({parameter.help})", default=default, show_default=shown, hide_input=secret)
        if text != default:
            given[key] = text
    title = prompt("Its name, as the wallbox's app shows it", default="", show_default=False) if role != "load" else ""
    return DeviceAnswer(role, index, name, title, typed(template, given))
