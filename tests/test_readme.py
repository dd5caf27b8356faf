"""README's first screen and its commands at home work as written, in a fresh clone."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import free_port, stop, wait_for_port

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands(language="sh"):
    return [line for block in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) for line in block.splitlines()]


@pytest.mark.timeout(400)
def test_make_demo_in_a_fresh_clone_shows_both_sites_live_and_leaves_nothing(tmp_path):
    assert "make demo" in commands()
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    done = subprocess.run(
        ["make", "demo", "DEMO_SECONDS=20", f"PYTHON={sys.executable}"],
        cwd=clone, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Both sites were read live" in done.stdout
    running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert str(clone) not in running


def test_the_commands_for_a_house_without_a_cloud(tmp_path):
    serve = next(line for line in commands() if "nrgkick-cloud serve" in line)
    port = free_port()
    binary = Path(sys.executable).parent
    serving = [word.replace("venv/bin", str(binary)) for word in serve.replace("0.0.0.0", "127.0.0.1").split()]
    serving[serving.index("1080")] = str(port)
    process = subprocess.Popen(serving, cwd=tmp_path, start_new_session=True)
    try:
        wait_for_port(port, process)
        for line in commands():
            if re.search(r"nrgkick-cloud (token|sites)", line):
                line = line.replace("venv/bin/nrgkick-cloud", "nrgkick-cloud").replace(
                    "nrgkick-cloud", str(binary / "nrgkick-cloud")
                )
                done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
                known = done.returncode == 0 or "there is no site" in done.stderr
                assert known, (line, done.stderr)
        assert (tmp_path / "push.token").read_text().count(".") == 2
    finally:
        stop(process)


@pytest.mark.timeout(400)
def test_the_pusher_alone_is_installed_by_the_commands_with_its_own_lock(tmp_path):
    """With this Python as it comes, whose own build tools are older than what builds the distribution, or missing."""
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    lines = [line for line in commands() if "venv" in line and ("-m venv" in line or "pip install" in line)]
    assert len(lines) == 3
    lines[0] = lines[0].replace("python3", sys._base_executable)
    assert "tests/requirements.txt" in lines[1]
    lines[1] = lines[1].replace("tests/requirements.txt", "pusher/requirements.txt")
    for line in [*lines, "venv/bin/nrgkick-pusher devices fronius-symo"]:
        done = subprocess.run(["bash", "-c", line], cwd=clone, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout + done.stderr)
    assert "Fronius" in done.stdout


def test_every_command_that_the_readme_names_exists():
    named = set(re.findall(r"nrgkick-(cloud|pusher) ([a-z]+)", README))
    for program, command in sorted(named):
        binary = shutil.which(f"nrgkick-{program}", path=str(Path(sys.executable).parent))
        done = subprocess.run([binary, command, "--help"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"nrgkick-{program} {command}: {done.stderr}"
