"""The Terraform module: what it deploys, what it redeploys, what it leaves alone."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.terraform.conftest import Terraform

pytestmark = pytest.mark.timeout(900)  # the first run builds the providers

TOOLS = Path(sys.executable).parent  # our own commands, installed beside this Python
DATABASE = "google_firestore_database.database[0]"
FUNCTION = "google_cloudfunctions2_function.function"
COMMANDS = ["first_token", "admin_token", "first_pusher", "first_proxy"]
EXAMPLES = {
    "minimal": {},
    "full": {"billing_account": "012345-6789AB-CDEF01", "email": "me@example.org"},
}


def test_it_is_formatted(prepared: Terraform) -> None:
    assert prepared.ask("fmt", "-check", "-recursive", "-diff").stdout == ""


def test_it_is_valid(prepared: Terraform) -> None:
    assert "valid" in prepared.run("validate", "-no-color")


@pytest.mark.parametrize("name", [path.name for path in sorted((ROOT / "terraform/tests").glob("*.tftest.hcl"))])
def test_its_own_tests_pass(module: Terraform, name: str) -> None:
    assert re.search(r"Success! [1-9]\d* passed, 0 failed", module.run("test", "-no-color", f"-filter=tests/{name}"))


def test_every_example_has_a_test() -> None:
    assert {path.name for path in (ROOT / "terraform/examples").iterdir()} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_applies_and_then_rests(applied: Terraform, module: Terraform, name: str) -> None:
    example = Terraform(module.folder / "examples" / name, module.environment)
    example.run("init", "-no-color")
    example.apply(**EXAMPLES[name])
    assert example.plan(**EXAMPLES[name]) == {}


def test_applying_again_changes_nothing(deployed: Terraform) -> None:
    assert deployed.plan() == {}


def test_a_changed_line_of_python_redeploys_and_touches_nothing_else(deployed: Terraform) -> None:
    with (deployed.root / "schemas" / "times.py").open("a") as file:
        file.write("# changed\n")
    assert deployed.plan() == {FUNCTION: ["update"], "google_storage_bucket_object.source": ["create", "delete"]}


def test_a_changed_requirement_redeploys(deployed: Terraform) -> None:
    with (deployed.root / "function" / "requirements.txt").open("a") as file:
        file.write("# changed\n")
    assert FUNCTION in deployed.plan()


def test_what_is_not_the_functions_code_does_not_redeploy(deployed: Terraform) -> None:
    for path in (
        "README.md",
        "function/.mypy_cache/3.11/main.data.json",
        "function/__pycache__/main.cpython-311.pyc",
        "function/test_main.py",
        "pusher/new.py",
        "schemas/notes.txt",
        "terraform/tests/new.tftest.hcl",
        "tests/function/test_new.py",
    ):
        file = deployed.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
    assert deployed.plan() == {}


def test_a_function_made_anew_gets_its_callers_back(deployed: Terraform) -> None:
    changes = deployed.plan(f"-replace={FUNCTION}")
    assert changes[FUNCTION] == ["delete", "create"]
    assert changes['google_cloud_run_v2_service_iam_member.invokers["allUsers"]'] == ["delete", "create"]


def test_the_signing_key_is_neither_in_the_state_nor_in_a_plan(deployed: Terraform) -> None:
    assert deployed.plan(signing_key_generation=2)['google_secret_manager_secret_version.signing_key["2"]'] == [
        "create"
    ]
    a_key = rb"(?=[A-Za-z0-9]*[A-Z])(?=[A-Za-z0-9]*[a-z])[A-Za-z0-9]{64}"
    key = re.compile(rb"(?<![A-Za-z0-9+/])" + a_key + rb"(?![A-Za-z0-9+/=])")  # no part of a checksum in base64
    assert key.search(b'"' + b"aB3" * 21 + b'x"'), "the pattern finds what is looked for"
    with zipfile.ZipFile(deployed.folder / "tfplan") as plan:
        places = [plan.read(name) for name in plan.namelist()]
    places += [(deployed.folder / "terraform.tfstate").read_bytes(), deployed.run("output", "-json").encode()]
    assert [key.findall(place) for place in places] == [[]] * len(places)


def test_a_rotation_adds_a_key_and_the_next_one_ends_the_first(deployed: Terraform) -> None:
    version = 'google_secret_manager_secret_version.signing_key["{}"]'.format
    assert deployed.plan(signing_key_generation=2) == {FUNCTION: ["update"], version(2): ["create"]}
    deployed.run("apply", "-no-color", "tfplan")
    # The stand-ins number every version 1; a real third one changes the function by itself.
    with (deployed.root / "function" / "main.py").open("a") as file:
        file.write("# changed\n")
    log = deployed.apply(signing_key_generation=3)
    assert {address for address in deployed.state() if "signing_key[" in address} == {version(2), version(3)}
    # The function lets go of the oldest key before that key is destroyed.
    assert log.index(f"{FUNCTION}: Modifications complete") < log.index(f"{version(1)}: Destroying")


def test_destroy_keeps_the_data(deployed: Terraform) -> None:
    database = deployed.state()[DATABASE]
    assert database["deletion_policy"] == "ABANDON"
    assert database["delete_protection_state"] == "DELETE_PROTECTION_ENABLED"
    deployed.run("destroy", "-no-color", "-auto-approve")
    assert deployed.state() == {}
    # What was kept is found again, and not made a second time.
    assert DATABASE not in deployed.plan(database={"create": False})


def test_destroy_deletes_the_data_when_told(deployed: Terraform) -> None:
    assert deployed.plan(database={"delete_on_destroy": True}) == {DATABASE: ["update"]}
    deployed.run("apply", "-no-color", "tfplan")
    database = deployed.state()[DATABASE]
    assert database["deletion_policy"] == "DELETE"
    assert database["delete_protection_state"] == "DELETE_PROTECTION_DISABLED"
    assert deployed.plan("-destroy", database={"delete_on_destroy": True})[DATABASE] == ["delete"]


def test_a_checkout_without_the_function_is_refused_at_once(module: Terraform) -> None:
    (module.root / "function" / "main.py").unlink()
    assert "run this from a whole checkout" in module.refuse()


def test_requirements_without_hashes_are_refused_at_once(module: Terraform) -> None:
    (module.root / "function" / "requirements.txt").write_text("pydantic==2.12.0\n")
    assert "must pin every requirement with its hashes" in module.refuse()


@pytest.mark.parametrize("output", COMMANDS)
def test_the_commands_it_prints_are_shell(applied: Terraform, output: str) -> None:
    commands = applied.run("output", "-raw", output)
    done = subprocess.run(["bash", "-n"], input=commands, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("access", ["public", "iam"])
def test_the_commands_it_prints_use_options_that_there_are(deployed: Terraform, access: str) -> None:
    if access == "iam":
        deployed.apply(access="iam", default_site="home")
    printed = "\n".join(deployed.run("output", "-raw", output) for output in COMMANDS)
    used = re.findall(r"(nrgkick-(?:cloud|pusher)) ([a-z]+)([^|&>\n#]*)", printed)
    assert {f"{tool} {command}" for tool, command, _ in used} == {
        "nrgkick-cloud token",
        "nrgkick-pusher check",
        "nrgkick-pusher init",
        "nrgkick-pusher proxy",
        "nrgkick-pusher service",
    }
    for tool, command, arguments in used:
        described = subprocess.run(
            [TOOLS / tool, command, "--help"],
            env={"COLUMNS": "200", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert described.returncode == 0, f"{tool} {command}: {described.stderr}"
        for option in re.findall(r"--[a-z-]+", arguments):
            assert option in described.stdout, f"{tool} {command} {option}"


def test_the_first_tokens_command_makes_tokens_and_shows_no_key(applied: Terraform, tmp_path: Path) -> None:
    """With a `gcloud` that answers as Secret Manager would, and the real `nrgkick-cloud`."""
    key = "k" * 64
    tools = tmp_path / "bin"
    tools.mkdir()
    gcloud = tools / "gcloud"
    gcloud.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\nprintf %s {key}\n')
    gcloud.chmod(0o755)
    done = subprocess.run(
        ["bash", "-euc", applied.run("output", "-raw", "first_token")],
        cwd=tmp_path,
        env={"PATH": f"{tools}:{TOOLS}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "asked").read_text().splitlines() == [
        "secrets versions access 1 --secret nrgkick-signing-key --project my-project"
    ] * 2
    for scope in ("push", "read"):
        token = tmp_path / f"nrgkick-{scope}.token"
        assert token.read_text().count(".") == 2
        assert token.stat().st_mode & 0o777 == 0o600
