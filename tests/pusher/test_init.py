"""`init`: what is answered wrongly is asked for again with the reason, and nothing secret is left lying or shown."""

import asyncio
import os
import pty
from contextlib import asynccontextmanager

import pytest

from tests.pusher.parts import BIN, PATIENCE_S, command, real_function
from tests.pusher.sources.replay import playing, recorded
from tests.pusher.sources.servers import http_device

SHELLY = {"/status": {"total_power": -542.0}}
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
async def cloud(tmp_path):
    folder = tmp_path / "function"
    folder.mkdir()
    async with real_function(folder) as function:
        yield function


@pytest.fixture
def house(tmp_path):
    folder = tmp_path / "house"
    folder.mkdir()
    return folder


@pytest.fixture
async def meter():
    async with http_device(SHELLY) as device:
        yield device.url.partition("://")[2]


def mode(path):
    return path.stat().st_mode & 0o777


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


class Terminal:
    """A terminal with somebody at it, who answers what is asked."""

    def __init__(self, screen, process):
        self.shown = ""
        self._screen, self._process = screen, process
        self._news = asyncio.Event()
        asyncio.get_running_loop().add_reader(screen, self._read)

    def _read(self):
        try:
            text = os.read(self._screen, 4096).decode(errors="replace")
        except OSError:  # Linux says so when the last one has left a terminal
            text = ""
        if not text:
            asyncio.get_running_loop().remove_reader(self._screen)
        self.shown += text
        self._news.set()

    async def answer(self, question, text):
        """Wait until a question is asked that was not answered yet, and type the answer."""
        async with asyncio.timeout(PATIENCE_S):
            while not (question in self.shown and self.shown.endswith(": ")):  # until then a terminal may still echo
                self._news.clear()
                await self._news.wait()
        shown, self.shown = self.shown, ""
        os.write(self._screen, f"{text}\n".encode())
        return shown

    async def end(self):
        """Wait for the end; the exit code and what was shown since the last answer."""
        return await asyncio.wait_for(self._process.wait(), PATIENCE_S), self.shown


@asynccontextmanager
async def terminal(*arguments, folder):
    screen, keyboard = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        BIN / "nrgkick-pusher", *arguments, cwd=folder, start_new_session=True,
        stdin=keyboard, stdout=keyboard, stderr=keyboard,
    )  # fmt: skip
    os.close(keyboard)
    try:
        yield Terminal(screen, process)
    finally:
        asyncio.get_running_loop().remove_reader(screen)
        if process.returncode is None:
            process.kill()
            await process.wait()
        os.close(screen)


async def test_a_configuration_with_a_password_is_its_owners_alone(house):
    (house / "token").write_text("a-token")
    (house / "pusher.yaml").write_text("old")
    (house / "pusher.yaml").chmod(0o644)
    code, said = await command(
        "init", "--url", NOWHERE, "--token-file", "token", "--force",
        "--device", "battery:0=tesla-powerwall,host=127.0.0.1:9,password=hunter2", folder=house,
    )  # fmt: skip
    assert code == 0, said
    assert "hunter2" not in said
    assert "hunter2" in (house / "pusher.yaml").read_text()
    assert mode(house / "pusher.yaml") == 0o600
    assert names_in(house) == ["pusher.schema.json", "pusher.yaml", "token"]


async def test_a_configuration_that_an_installed_service_reads_stays_readable_to_its_group_alone(house):
    (house / "token").write_text("a-token")
    (house / "pusher.yaml").touch()
    (house / "pusher.yaml").chmod(0o640)
    code, said = await command(
        "init", "--url", NOWHERE, "--force", "--device", "battery:0=tesla-powerwall,host=h,password=p", folder=house
    )
    assert code == 0, said
    assert mode(house / "pusher.yaml") == 0o640


async def test_neither_token_nor_password_is_shown_while_it_is_typed(cloud, house, tmp_path):
    token = await cloud.token()
    async with (
        playing(recorded("sonnenbatterie")[0], tmp_path) as at,
        terminal("init", folder=house) as owner,
    ):
        await owner.answer("Where is the cloud function", cloud.url)
        await owner.answer("The push token", token)
        good = await owner.answer("A device", "battery")
        assert token not in good
        assert 'the token is good for site "home", scope push' in good
        await owner.answer("Template", "sonnenbatterie")
        await owner.answer("host", at["host"])
        await owner.answer("token (token of the JSON API)", "t0ken")
        asked = await owner.answer("Its name", "Cellar")
        assert "t0ken" not in asked
        read = await owner.answer("Keep it?", "y")
        assert "bat_power_w = -749" in read
        await owner.answer("A device", "battery")
        assert "the wallbox knows no more than 1 of battery" in await owner.answer("A device", "")
        code, said = await owner.end()
    assert code == 0, said
    assert mode(house / "pusher.yaml") == mode(house / "token") == 0o600
    assert (house / "token").read_text().strip() == token


async def test_templates_are_listed_by_maker_with_what_they_deliver(house):
    _, said = await command("init", "--url", NOWHERE, answers="a-token\nbattery\nnone\n\n", folder=house)
    rows = [line.split() for line in said.splitlines()]
    listed = [row[:2] for row in rows if row and row[0] in ("e3dc", "sonnenbatterie", "tesla-powerwall")]
    assert listed == [["e3dc", "E3/DC"], ["sonnenbatterie", "sonnen"], ["tesla-powerwall", "Tesla"]]
    assert any({"inverter,", "energy_meter,", "battery,", "load"} <= set(row) for row in rows)
    assert not any(row and row[0] == "my-pv-ac-thor" for row in rows), "what delivers no battery is not listed"


async def test_a_wrong_first_answer_is_asked_for_again_with_the_reason(cloud, meter, house):
    read, push = await cloud.token("read"), await cloud.token()
    answers = [
        "nrgkick-abc.a.run.app", "http://nrgkick.example", cloud.url,
        "two words", "rubbish", "", read, "", push,
        "energy_meter", "shelly-3em", meter, "", "", "", "Grid", "y", "",
    ]  # fmt: skip
    code, said = await command("init", answers="\n".join(answers) + "\n", folder=house)
    assert code == 0, said
    for reason in (
        'write the address of the function, such as "https://nrgkick-abc.a.run.app"',
        "plain http would show the token to the network",
        "that is not one token",
        "the token was not taken (401)",
        'the token is good for site "home", scope read',
        "a pusher needs a token with the scope push",
        'the token is good for site "home", scope push',
    ):
        assert reason in said
    assert "draft" not in said
    assert (house / "token").read_text().strip() == push
    assert cloud.url in (house / "pusher.yaml").read_text()


async def test_what_is_no_function_is_said_and_its_address_asked_for_again(cloud, meter, house):
    async with http_device({"/api/v1/whoami": {"hello": "world"}}) as other:
        answers = [
            other.url,
            await cloud.token(),
            cloud.url,
            "",
            "energy_meter",
            "shelly-3em",
            meter,
            *[""] * 4,
            "y",
            "",
        ]
        code, said = await command("init", answers="\n".join(answers) + "\n", folder=house)
    assert code == 0, said
    assert f"what answers at {other.url} (200) is not the function" in said
    assert (await command("check", "--online", folder=house))[0] == 0


async def test_without_a_network_it_goes_on_with_a_warning(meter, house):
    answers = [NOWHERE, "a-token", "energy_meter", "shelly-3em", meter, "", "", "", "", "y", ""]
    code, said = await command("init", answers="\n".join(answers) + "\n", folder=house)
    assert code == 0, said
    assert "warning: address and token could not be tried and are taken as they are" in said


@pytest.mark.parametrize("ending", [[""], ["battery", "none"], ["load", "evcc", "127.0.0.1:9", "", "n", ""]])
async def test_without_a_configuration_no_token_stays_behind(house, ending):
    code, said = await command("init", answers="\n".join([NOWHERE, "mistyped", *ending]) + "\n", folder=house)
    assert code == 1, said
    assert names_in(house) == []


async def test_a_configuration_that_cannot_be_written_leaves_no_token_behind(meter, house):
    (house / "in the way").mkdir()
    answers = f"{NOWHERE}\na-token\nenergy_meter\nshelly-3em\n{meter}\n\n\n\n\ny\n\n"
    code, said = await command("init", "--force", "--out", "in the way", answers=answers, folder=house)
    assert code == 1
    assert f"{house}/in the way: Is a directory" in said
    assert names_in(house) == ["in the way", "pusher.schema.json"]


async def test_a_given_token_that_the_cloud_refuses_ends_it_unless_it_is_forced(cloud, meter, house):
    (house / "mine").write_text("rubbish")
    options = ["--url", cloud.url, "--token-file", "mine", "--device", f"energy_meter:0=shelly-3em,host={meter}"]
    code, said = await command("init", *options, folder=house)
    assert (code, names_in(house)) == (1, ["mine"]), said
    assert "the token was not taken (401)" in said
    code, said = await command("init", *options, "--force", folder=house)
    assert code == 0, said
    assert "warning: the token was not taken (401)" in said


async def test_a_token_that_lies_there_is_named_and_asked_for_anew_if_the_cloud_does_not_take_it(cloud, meter, house):
    (house / "token").write_text("old-and-revoked")
    answers = [cloud.url, "", await cloud.token(), "energy_meter", "shelly-3em", meter, "", "", "", "", "y", ""]
    code, said = await command("init", answers="\n".join(answers) + "\n", folder=house)
    assert code == 0, said
    assert f"the push token is taken from {house}/token" in said
    assert "the token was not taken (401)" in said
    assert (await command("check", "--online", folder=house))[0] == 0


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--url", "nrgkick-abc.a.run.app"], "--url: write the address of the function"),
        (["--url", NOWHERE, "--token-file", "nowhere"], "nowhere cannot be read: No such file or directory"),
        (["--url", NOWHERE, "--pusher", "Barn Pi"], "pusher: string should match pattern"),
        (["--url", NOWHERE, "--device", "battery:0=e3dc,host=h"], "battery:0 is given twice"),
    ],
)
async def test_a_wrong_option_is_named_before_any_device_is_asked(house, options, reason):
    code, said = await command("init", "--device", "battery:0=e3dc,host=h", *options, folder=house)
    assert code == 1
    assert reason in said
    assert "draft" not in said
    assert names_in(house) == []
