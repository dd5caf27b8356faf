"""The layout shows the design: folders, the direction of imports, and a pusher that needs nothing of Google's."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ALLOWED = {"schemas": {"schemas"}, "function": {"function", "schemas"}, "pusher": {"pusher", "schemas"}}
PARTS = set(ALLOWED)


def tracked(*patterns: str) -> list[Path]:
    files = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / line for line in files.splitlines()]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports name their package"
            names.add(node.module or "")
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("part", sorted(PARTS))
def test_imports_point_one_way(part):
    for path in (ROOT / part).rglob("*.py"):
        assert imported(path) & PARTS <= ALLOWED[part], path


def test_the_pusher_imports_without_any_google_package():
    program = """
import sys, importlib.abc, pkgutil, importlib
class NoGoogle(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("google", "grpc", "functions_framework", "starlette", "uvicorn", "function"):
            raise ImportError(f"{name} is not for the pusher")
sys.meta_path.insert(0, NoGoogle())
import pusher
for module in pkgutil.walk_packages(pusher.__path__, "pusher."):
    importlib.import_module(module.name)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_start_of_the_function_imports_what_the_wallbox_asks_alone():
    program = """
import sys, function.main, function.stores.firestore
late = ("function.lanes", "function.days", "function.history", "function.charts", "function.page", "schemas.messages",
        "schemas.history", "schemas.overview")
assert all(route in function.main.ROUTES for route in ("/api/v1/live", "/api/v1/readings"))
sys.exit(" ".join(name for name in late if name in sys.modules) or 0)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (0, ""), done.stderr


def test_the_top_level_holds_what_the_design_says():
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert folders <= {"function", "pusher", "schemas", "tests", "terraform", ".ci"}


def test_locks_hold_hashes_and_no_host():
    for part in ("function", "pusher", "tests"):
        lock = (ROOT / part / "requirements.txt").read_text(encoding="utf-8")
        pinned = [line for line in lock.splitlines() if "==" in line]
        assert pinned
        assert all(line.endswith("\\") for line in pinned), "every pin has a hash"
        assert "://" not in lock
        assert "index-url" not in lock
