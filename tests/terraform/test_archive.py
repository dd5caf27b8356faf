"""The archive is proven: what Terraform would upload, alone, installed and started as Google Cloud does it."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from function.tokens import Keyring
from schemas.times import format_time
from tests.conftest import free_port, lacking, wait_for_port
from tests.terraform.conftest import Terraform, built_once

pytestmark = pytest.mark.timeout(900)  # the first run installs the requirements

KEY = "k" * 64
ARCHIVE = "data.archive_file.source"
FUNCTION = "google_cloudfunctions2_function.function"


@pytest.fixture(scope="module")
def unpacked(applied: Terraform, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the deployment uploaded, unpacked."""
    state = applied.state()
    archive = applied.folder / state["google_storage_bucket_object.source"]["source"]
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def environment_of_its_own(unpacked: Path) -> Path:
    """A virtual environment with the archive's requirements, by their hashes, and nothing else."""
    requirements = unpacked / "requirements.txt"

    def build(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run(
            [*pip, "--require-hashes", "-r", requirements], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    return built_once("archive", f"{requirements.read_text()} {sys.version}", build)


def test_it_holds_all_of_the_functions_code_and_nothing_else(applied: Terraform, unpacked: Path) -> None:
    repository = applied.root
    wanted = {
        file.relative_to(repository).as_posix()
        for part in ("function", "schemas")
        for file in (repository / part).rglob("*")
        if file.is_file()
    } - {"function/requirements.in", "function/requirements.txt", "function/py.typed", "schemas/py.typed"}
    held = {file.relative_to(unpacked).as_posix() for file in unpacked.rglob("*") if file.is_file()}
    assert held == wanted | {"main.py", "requirements.txt"}
    assert (unpacked / "requirements.txt").read_text() == (repository / "function" / "requirements.txt").read_text()


def test_it_is_the_same_from_every_checkout(applied: Terraform, deployed: Terraform) -> None:
    """Other times, other modes, another folder: no other archive."""
    for file in deployed.root.rglob("*.py"):
        file.chmod(0o700)
        os.utime(file, (0, 0))
    deployed.plan()
    mine, other = (item.folder / item.state()[ARCHIVE]["output_path"] for item in (applied, deployed))
    assert mine != other
    assert mine.read_bytes() == other.read_bytes()


def test_its_requirements_have_wheels_for_the_runtime(
    applied: Terraform, environment_of_its_own: Path, unpacked: Path, tmp_path: Path
) -> None:
    """Google's build would compile what has none, for minutes, or fail at it."""
    runtime = applied.state()[FUNCTION]["build_config"][0]["runtime"].removeprefix("python")
    version = f"{runtime[0]}.{runtime[1:]}"
    pip = [environment_of_its_own / "bin" / "python", "-m", "pip", "--disable-pip-version-check"]
    install = ["install", "--dry-run", "--quiet", "--target", tmp_path, "--require-hashes", "--only-binary", ":all:"]
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (5, 12, 17, 28, 34)] + [
        "--platform=manylinux2014_x86_64"
    ]
    done = subprocess.run(
        [*pip, *install, "--python-version", version, *platforms, "-r", unpacked / "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if "Connection" in done.stderr or "Temporary failure" in done.stderr:
        lacking(f"the package index does not answer, wheels for Python {version} are NOT checked:\n{done.stderr}")
    assert done.returncode == 0, done.stderr


class Deployed:
    """The archive at work."""

    def __init__(self, port: int, log: Path, started_s: float) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log
        self.started_s = started_s
        self._keys = Keyring(KEY)

    def token(self, scope: str, site: str = "home") -> str:
        expires = timedelta(hours=1) if site == "*" else None
        return self._keys.make(site, scope, datetime.now(UTC), expires=expires)

    def call(self, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "X-NRGkick-Token": token,
                "Content-Type": "application/json",
                "X-Cloud-Trace-Context": "105445aa7843bc8bf206b12000100000/1;o=1",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as refusal:
            with refusal:
                return refusal.code, json.loads(refusal.read())

    def lines(self) -> list[dict[str, Any]]:
        """What it logged in the form that Cloud Logging takes."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@pytest.fixture
def running(
    applied: Terraform,
    environment_of_its_own: Path,
    unpacked: Path,
    emulator: str,
    project: str,
    processes: Callable[..., subprocess.Popen[bytes]],
    tmp_path: Path,
) -> Deployed:
    """The archive, started as Google starts it: in its folder, with what the platform and Terraform set and no more."""
    folder = tmp_path / "workspace"
    shutil.copytree(unpacked, folder)
    port = free_port()
    service = applied.state()[FUNCTION]["service_config"][0]
    assert {secret["key"] for secret in service["secret_environment_variables"]} == {"NRGKICK_SIGNING_KEY"}
    environment = {
        "HOME": str(tmp_path),
        "PATH": f"{environment_of_its_own / 'bin'}:/usr/bin:/bin",
        "FUNCTION_SIGNATURE_TYPE": "http",
        "FUNCTION_TARGET": applied.state()[FUNCTION]["build_config"][0]["entry_point"],
        "K_CONFIGURATION": "nrgkick",
        "K_REVISION": "nrgkick-00001-abc",
        "K_SERVICE": "nrgkick",
        "PORT": str(port),
        **service["environment_variables"],
        "NRGKICK_SIGNING_KEY": KEY,
        "FIRESTORE_EMULATOR_HOST": emulator,
        "GOOGLE_CLOUD_PROJECT": project,
    }
    log = tmp_path / "log"
    with log.open("wb") as out:
        begun = time.monotonic()
        process = processes(
            environment_of_its_own / "bin" / "functions-framework",
            "--target",
            "nrgkick",
            cwd=folder,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
        wait_for_port(port, process)
    return Deployed(port, log, time.monotonic() - begun)


def readings() -> dict[str, Any]:
    """Twenty rows of yesterday, over two quarter hours, and one that no model takes."""
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
    rows = [
        {
            "measured_at": format_time(noon + timedelta(minutes=minute)),
            "duration_s": 60,
            "device_values": {"inverters": {"0": {"inv_power_ac_w": 2000}}},
        }
        for minute in range(-10, 10)
    ]
    bad = {**rows[0], "device_values": {"inverters": {"0": {"inv_power_ac_w": "sunny"}}}}
    return {"pusher": "barn-pi", "sent_at": format_time(datetime.now(UTC)), "readings": [*rows, bad]}


def live() -> dict[str, Any]:
    """One reading of now."""
    now = format_time(datetime.now(UTC))
    values = {"inverters": {"0": {"inv_power_ac_w": 2225}}, "energy_meters": {"0": {"grid_power_w": -1000}}}
    info = {"inverters": {"0": {"name": "Roof"}}}
    return {"pusher": "barn-pi", "sent_at": now, "measured_at": now, "device_values": values, "device_info": info}


def test_it_starts_stores_and_serves(running: Deployed, record_property: Callable[[str, object], None]) -> None:
    begun = time.monotonic()
    assert running.call("GET", "/api/v1/values.json", running.token("read"))[0] == 503
    first_answer_s = running.started_s + time.monotonic() - begun
    record_property("start_to_listening_s", round(running.started_s, 2))
    record_property("start_to_first_answer_from_firestore_s", round(first_answer_s, 2))
    print(f"started in {running.started_s:.2f} s, first answer from Firestore after {first_answer_s:.2f} s")

    status, answer = running.call("POST", "/api/v1/live", running.token("push"), live())
    assert (status, answer["status"]) == (200, "stored")
    status, document = running.call("GET", "/api/v1/values.json", running.token("read"))
    assert status == 200
    assert document["device_values"]["inverters"]["0"]["inv_power_ac_w"] == 2225
    status, document = running.call("GET", "/api/v1/info.json", running.token("read"))
    assert (status, document["device_info"]["inverters"]["0"]["name"]) == (200, "Roof")


def test_the_contracts_500_comes_from_it_and_not_from_the_framework(running: Deployed) -> None:
    assert running.call("POST", "/api/v1/values.json", "", {})[0] == 500


def test_it_logs_what_terraform_counts_and_never_a_token(running: Deployed, project: str) -> None:
    push = running.token("push")
    status, answer = running.call("POST", "/api/v1/readings", push, readings())
    assert (status, answer["stored"], len(answer["rejected"])) == (200, 20, 1)
    assert running.call("POST", "/api/v1/live", push, live())[0] == 200
    assert running.call("GET", "/api/v1/values.json", running.token("read", "elsewhere"))[0] == 503

    lines = running.lines()
    assert {(line["event"], line["site"]) for line in lines} == {
        ("live_stored", "home"),
        ("readings_stored", "home"),
        ("rejected", "home"),
        ("stale_poll", "elsewhere"),
    }
    for line in lines:
        assert line["severity"] in {"INFO", "WARNING"}
        assert line["logging.googleapis.com/trace"] == f"projects/{project}/traces/105445aa7843bc8bf206b12000100000"
    assert push not in running.log.read_text()
    assert push.rpartition(".")[2] not in running.log.read_text()


def test_terraform_knows_every_field_that_it_writes(
    applied: Terraform, running: Deployed, emulator: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A field that is not named in database.tf would have indexes, and each write would pay for them."""
    from google.cloud import firestore

    admin = running.token("admin", "*")
    assert running.call("PUT", "/api/v1/sites/home", admin, {"name": "Home", "timezone": "Europe/Vienna"})[0] == 200
    assert running.call("POST", "/api/v1/live", running.token("push"), live())[0] == 200
    assert running.call("POST", "/api/v1/readings", running.token("push"), readings())[0] == 200
    now = datetime.now(UTC)
    days = f"from={now - timedelta(days=3):%Y-%m-%d}&to={now:%Y-%m-%d}&resolution=1d"
    status, history = running.call("GET", f"/api/v1/sites/home/history?{days}", running.token("admin"))
    assert (status, len(history["steps"])) == (200, 1)

    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)
    client = firestore.Client(project=project)
    written: set[str] = set()

    def visit(collection: Any) -> None:
        for reference in collection.list_documents():
            written.update(f"{collection.id}.{field}" for field in reference.get().to_dict() or {})
            for below in reference.collections():
                visit(below)

    for collection in client.collections():
        visit(collection)
    client.close()
    known = {
        f"{values['collection']}.{values['field']}"
        for address, values in applied.state().items()
        if address.startswith("google_firestore_field.")
    }
    assert written == known
