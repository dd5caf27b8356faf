"""checkov's rules for Google Cloud hold, and every exception says why."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import lacking
from tests.terraform.conftest import Terraform, built_once

pytestmark = pytest.mark.timeout(900)  # the first run installs checkov

CHECKOV = "checkov==3.3.30"


@pytest.fixture(scope="module")
def checkov() -> Path:
    """Its command, in an environment of its own: it pins what others pin too."""

    def build(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", CHECKOV]
        done = subprocess.run(pip, capture_output=True, text=True, check=False)
        if done.returncode:
            lacking(f"checkov cannot be installed, its rules are NOT tested:\n{done.stderr}")

    return built_once("checkov", f"{CHECKOV} {sys.version}", build) / "bin" / "checkov"


def test_its_rules_hold_and_every_exception_is_argued(checkov: Path, module: Terraform) -> None:
    done = subprocess.run(
        [checkov, "--directory", module.folder, "--framework", "terraform", "--skip-download", "--output", "json"],
        env=dict(os.environ, LOG_LEVEL="ERROR"),
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert [f"{item['check_id']} {item['resource']}" for item in report["results"]["failed_checks"]] == []
    assert report["summary"]["passed"] > 0
    assert report["summary"]["parsing_errors"] == 0
    skipped = {
        item["check_id"]: item["check_result"]["suppress_comment"].strip()
        for item in report["results"]["skipped_checks"]
    }
    assert all(len(why) > 20 for why in skipped.values()), skipped
    written = [
        line for file in module.folder.glob("*.tf") for line in file.read_text().splitlines() if "checkov:skip=" in line
    ]
    assert len(written) == len(skipped), "an exception that excepts nothing"
