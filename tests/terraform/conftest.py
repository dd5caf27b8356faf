"""Terraform itself, in a copy of the repository, with providers that need no cloud.

Stand-in providers (they serve the real providers' schemas and create nothing) are built from
`../shared/tools/terraform-stand-in` where that lies beside the repository, else TF_CLI_CONFIG_FILE names a
configuration that finds some. With neither, the real providers are fetched; they cannot apply without a cloud, so tests
that apply say so and skip.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, lacking, need

STAND_IN = ROOT.parent / "shared" / "tools" / "terraform-stand-in"
REQUIRED = {"project": "my-project", "region": "europe-west1"}


@dataclass(frozen=True)
class Providers:
    """How terraform finds its providers, and whether they only pretend."""

    environment: dict[str, str]
    are_stand_ins: bool


class Terraform:
    """One folder in which terraform runs."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    @property
    def root(self) -> Path:
        """The copy of the repository that the folder is a part of."""
        return next(parent for parent in self.folder.parents if (parent / "schemas").is_dir())

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run terraform, whatever comes of it."""
        return subprocess.run(
            ["terraform", *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def run(self, *arguments: str) -> str:
        """Run terraform and return what it printed; fails the test if it failed."""
        done = self.ask(*arguments)
        if done.returncode:
            pytest.fail(f"terraform {' '.join(arguments)}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def plan(self, *options: str, **variables: Any) -> dict[str, list[str]]:
        """What an apply would do: the actions by address, of all that would change."""
        self._set(variables)
        self.run("plan", "-no-color", "-out=tfplan", *options)
        changes = json.loads(self.run("show", "-json", "tfplan")).get("resource_changes", [])
        return {
            item["address"]: item["change"]["actions"] for item in changes if item["change"]["actions"] != ["no-op"]
        }

    def refuse(self, **variables: Any) -> str:
        """What a plan says that must not succeed, on one line."""
        self._set(variables)
        done = self.ask("plan", "-no-color")
        assert done.returncode == 1, done.stdout
        return " ".join(done.stderr.replace("│", " ").split())

    def apply(self, *options: str, **variables: Any) -> str:
        self._set(variables)
        return self.run("apply", "-no-color", "-auto-approve", *options)

    def state(self) -> dict[str, dict[str, Any]]:
        """The values of every resource by address, of modules too."""

        def walk(module: dict[str, Any]) -> dict[str, dict[str, Any]]:
            own = {item["address"]: item["values"] for item in module.get("resources", [])}
            return own | {
                address: values for child in module.get("child_modules", []) for address, values in walk(child).items()
            }

        return walk(json.loads(self.run("show", "-json")).get("values", {}).get("root_module", {}))

    def _set(self, variables: dict[str, Any]) -> None:
        (self.folder / "test.auto.tfvars.json").write_text(json.dumps(REQUIRED | variables))


def built_once(name: str, key: str, build: Callable[[Path], None]) -> Path:
    """A folder in the user's cache that `build` has filled, now or in an earlier run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nrgkick-cloud-tests"
    folder = cache / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / ".complete").exists():
            build(folder)
            (folder / ".complete").touch()
    return folder


@pytest.fixture(scope="session")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Providers:
    """Providers for terraform, of whatever kind can be had."""
    need("terraform", "terraform, from HashiCorp's own repository")
    environment = dict(os.environ, CHECKPOINT_DISABLE="1", TF_IN_AUTOMATION="1", TF_INPUT="0")
    if (STAND_IN / "setup.sh").exists():
        need("npm", "npm")

        def build(folder: Path) -> None:
            done = subprocess.run([STAND_IN / "setup.sh", folder], capture_output=True, text=True, check=False)
            if done.returncode:
                lacking(f"the stand-in providers could not be built, terraform is NOT tested:\n{done.stderr}")

        parts = "".join(
            hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(STAND_IN.iterdir()) if file.is_file()
        )
        environment["TF_CLI_CONFIG_FILE"] = str(built_once("stand-in", f"{STAND_IN}{parts}", build) / "terraformrc")
        return Providers(environment, are_stand_ins=True)
    if Path(environment.get("TF_CLI_CONFIG_FILE", "")).is_file():
        return Providers(environment, are_stand_ins=True)
    environment.pop("TF_CLI_CONFIG_FILE", None)
    trial = Terraform(copy_of_repository(tmp_path_factory.mktemp("trial")) / "terraform", environment)
    done = trial.ask("init", "-no-color")
    if done.returncode:
        lacking(f"neither stand-in nor real providers are to be had, terraform is NOT tested:\n{done.stderr}")
    return Providers(environment, are_stand_ins=False)


def copy_of_repository(folder: Path) -> Path:
    """What terraform looks at, without what a working tree gathers."""
    unwanted = shutil.ignore_patterns(
        ".terraform*", "*.tfstate*", "*.auto.tfvars*", "tfplan", "__pycache__", ".*_cache"
    )
    for name in ("function", "schemas", "terraform"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    return folder


@pytest.fixture(scope="session")
def prepared(providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The module, initialized in a copy of the repository that no test changes."""
    made = Terraform(copy_of_repository(tmp_path_factory.mktemp("prepared")) / "terraform", providers.environment)
    made.run("init", "-no-color")
    return made


@pytest.fixture(scope="session")
def applied(prepared: Terraform, providers: Providers, tmp_path_factory: pytest.TempPathFactory) -> Terraform:
    """The same, deployed with two variables; no test changes it."""
    if not providers.are_stand_ins:
        lacking("the real providers cannot apply without a cloud; what apply does is NOT tested")
    made = _copy(prepared, tmp_path_factory.mktemp("applied"))
    made.apply()
    return made


@pytest.fixture
def module(prepared: Terraform, tmp_path: Path) -> Terraform:
    """The initialized module in a copy of the test's own."""
    return _copy(prepared, tmp_path)


@pytest.fixture
def deployed(applied: Terraform, tmp_path: Path) -> Terraform:
    """The deployed module with its state, in a copy of the test's own."""
    return _copy(applied, tmp_path)


def _copy(terraform: Terraform, folder: Path) -> Terraform:
    shutil.copytree(terraform.root, folder, symlinks=True, dirs_exist_ok=True)
    return Terraform(folder / terraform.folder.relative_to(terraform.root), terraform.environment)
