"""How closely the tests watch the rules, the tokens and the outbox: python -m tests.mutants [--only PATH].

mutmut changes one thing at a time in the modules that pyproject.toml names under [tool.mutmut], and runs the quick
tests that come by there. It leaves out properties, validators and constants; by_hand.toml has changes to those. A
change that no test notices has survived: a test is missing, or the change changes nothing that anyone could see, and
then argued.toml says why. Status 1: something survived that nobody has argued.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import orig_function_and_class_names_from_key
from rich.console import Console
from rich.markup import escape
from rich.table import Table

HERE = Path(__file__).parent
TREE = Path("mutants")
"""Where mutmut keeps its changed copy of the tree."""
NOTICED = {"killed", "timeout", "segfault", "suspicious"}
TESTS_FAILED = {1, 2}
"""Pytest's status where a test failed, or could not even be imported."""


def read(path: Path) -> Any:
    """A TOML file."""
    return tomllib.loads(path.read_text(encoding="utf-8"))


SETTINGS = read(Path("pyproject.toml"))["tool"]["mutmut"]


@dataclass(frozen=True)
class Mutant:
    """One change, and whether a test noticed it."""

    module: str
    where: str
    """The function, or `by hand`."""
    change: str
    """The line as it became; lasts while the line does, unlike mutmut's numbers."""
    noticed: bool


def by_mutmut(module: str) -> Iterator[Mutant]:
    """Every change that mutmut made to a module."""
    data = SourceFileMutationData(path=module)
    data.load()
    for name, status in data.exit_code_by_key.items():
        function, owner = orig_function_and_class_names_from_key(name)
        noticed = status_by_exit_code[status] in NOTICED
        change = "" if noticed else told(get_diff_for_mutant(name, path=module))
        yield Mutant(module, f"{owner}.{function}" if owner else function, change, noticed)


def told(diff: str) -> str:
    """A change in a line: what the code became, or what it went without."""
    lines = diff.splitlines()[2:]
    became = [line[1:].strip() for line in lines if line.startswith("+")]
    gone = [line[1:].strip() for line in lines if line.startswith("-")]
    return " ".join(became) or "without " + " ".join(gone)


def hand_made(module: str) -> list[tuple[str, str]]:
    """What by_hand.toml has for a module: what was, and what it becomes; exits where the module is another by now."""
    source = Path(module).read_text(encoding="utf-8")
    changes = [(entry["was"], entry["becomes"]) for entry in read(HERE / "by_hand.toml").get(module, ())]
    for was, _ in changes:
        if source.count(was) != 1:
            sys.exit(f"by_hand.toml: {module} has {was!r} {source.count(was)} times, not once; mend the entry")
    return changes


def by_hand(module: str) -> Iterator[Mutant]:
    """Every change that by_hand.toml has for a module, each tried where mutmut keeps its copy of the tree."""
    source = Path(module).read_text(encoding="utf-8")
    copy = TREE / module
    by_mutmut = copy.read_text(encoding="utf-8")
    folder = f"tests/{module.partition('/')[0]}"
    tests = [test for test in SETTINGS["pytest_add_cli_args_test_selection"] if test.startswith(folder)]
    for was, becomes in hand_made(module):
        try:
            copy.write_text(source.replace(was, becomes), encoding="utf-8")
            command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
            done = subprocess.run(command, cwd=TREE, capture_output=True, text=True, check=False)
        finally:
            copy.write_text(by_mutmut, encoding="utf-8")
        if done.returncode and done.returncode not in TESTS_FAILED:
            sys.exit(f"the tests could not be run over {becomes!r}:\n{done.stdout}{done.stderr}")
        yield Mutant(module, "by hand", becomes, bool(done.returncode))


def reason(mutant: Mutant) -> str | None:
    """Why a survivor changes nothing that anyone could see, as argued.toml has it."""
    for entry in read(HERE / "argued.toml")["argued"]:
        if mutant.module not in entry.get("modules", [mutant.module]):
            continue
        if mutant.change in entry.get("changes", ()) or any(
            re.search(it, mutant.change) for it in entry.get("like", ())
        ):
            return str(entry["why"])
    return None


def show(mutants: list[Mutant], path: Path) -> int:
    """Write the result as JSON, show it, and say by the status whether a test is missing."""
    console = Console()
    survivors = [{**vars(it), "argued": reason(it)} for it in mutants if not it.noticed]
    table = Table("module", "mutants", "noticed", "argued", "survived", "score")
    figures = []
    for module in dict.fromkeys(it.module for it in mutants):
        made = [it for it in mutants if it.module == module]
        left = [it for it in survivors if it["module"] == module]
        argued = sum(it["argued"] is not None for it in left)
        noticed = len(made) - len(left)
        figure = {"module": module, "mutants": len(made), "noticed": noticed, "argued": argued}
        figure |= {"survived": len(left) - argued, "score": round(noticed / (len(made) - argued), 4)}
        figures.append(figure)
        table.add_row(*map(str, list(figure.values())[:-1]), f"{figure['score']:.1%}")
    console.print(table, "score: noticed of those that are not argued away", sep="\n")
    for it in survivors:
        if it["argued"] is None:
            console.print(f"[red]{it['module']} {it['where']}:[/red] {escape(it['change'])}", soft_wrap=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"modules": figures, "survivors": survivors}, indent=1), encoding="utf-8")
    console.print(f"kept in {path}")
    return int(any(it["argued"] is None for it in survivors))


def main() -> int:
    """Make the mutants, try the tests on them, show what came of it; the exit status."""
    modules = SETTINGS["only_mutate"]
    parser = argparse.ArgumentParser(prog="tests.mutants", description=__doc__.partition(":")[0])
    parser.add_argument("--only", choices=modules, metavar="PATH", help="this module alone: " + ", ".join(modules))
    parser.add_argument("--json", type=Path, default=Path("build/mutants.json"), help="where the result goes as JSON")
    arguments = parser.parse_args()
    modules = [arguments.only] if arguments.only else modules
    for module in modules:
        hand_made(module)  # before the long run, not after it
    os.environ.setdefault("HYPOTHESIS_PROFILE", "mutants")
    shutil.rmtree(TREE, ignore_errors=True)
    names = [arguments.only.removesuffix(".py").replace("/", ".") + ".*"] if arguments.only else []
    mutmut = subprocess.run([str(Path(sys.executable).with_name("mutmut")), "run", *names], check=False)
    if mutmut.returncode:
        return mutmut.returncode
    return show([it for module in modules for it in (*by_mutmut(module), *by_hand(module))], arguments.json)


if __name__ == "__main__":
    sys.exit(main())
