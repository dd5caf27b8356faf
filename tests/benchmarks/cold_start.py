"""Start to the first values.json, on Firestore, against a bare framework that merely imports the Firestore client.

Both are started in turn by the framework's own command; the clock runs from the start of the process to its first
answer.
"""

import http.client
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from tests.benchmarks.report import Report
from tests.benchmarks.servers import KEY, KEYRING, RIVALS, ask, cloud, emulator, framework_words, live_post, running
from tests.conftest import ROOT, free_port

ROUNDS = 21
QUICK = {"rounds": 1}
PATIENCE_S = 60
PATH = "/api/v1/values.json"


def measure(report: Report, rounds: int = ROUNDS) -> None:
    """Seconds of both, and their ratio."""
    now = datetime.now(UTC)
    push, read, admin = (KEYRING.make("home", scope, now) for scope in ("push", "read", "admin"))
    took_s: dict[str, list[float]] = {"product": [], "framework with the Firestore client": []}
    with tempfile.TemporaryDirectory() as name, emulator(Path(name)) as env:
        log = Path(name) / "function.log"
        env = {**env, "NRGKICK_STORE": "firestore", "NRGKICK_SIGNING_KEY": KEY}
        env["PYTHONDONTWRITEBYTECODE"] = ""  # both find their bytecode from the second round on
        with cloud("firestore", log, env) as url:
            ask("PUT", f"{url}/api/v1/sites/home", admin, {"stale_after_s": 3600})
            ask("POST", f"{url}/api/v1/live", push, live_post())
        rivals = [(ROOT / "function/main.py", "nrgkick"), (RIVALS / "firestore_imported.py", "constant")]
        for number in range(rounds + 1):  # the first fills the disk's cache
            report.say(f"  round {number} of {rounds}")
            for (what, found), (source, target) in zip(took_s.items(), rivals, strict=True):
                seconds = _first_answer_s(source, target, read, log, env)
                if number:
                    found.append(seconds)
                report.say(f"    {what}: {seconds:.2f} s")
    product, bare = (median(found) for found in took_s.values())
    for what, found in took_s.items():
        report.figure(f"start to first answer, {what}", median(found), "s")
    report.figure("start to first values.json against the bare framework", product / bare, "times", at_most=1.25)


def _first_answer_s(source: Path, target: str, token: str, log: Path, env: dict[str, str]) -> float:
    """From the start of the process to a whole answer of 200."""
    port = free_port()
    began_s = time.monotonic()
    with running(*framework_words(source, target, port), log=log, env=env) as process:
        while time.monotonic() < began_s + PATIENCE_S and process.poll() is None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
            try:
                connection.request("GET", PATH, headers={"X-NRGkick-Token": token})
                answer = connection.getresponse()
                answer.read()
            except OSError:
                time.sleep(0.01)
                continue
            finally:
                connection.close()
            if answer.status == 200:
                return time.monotonic() - began_s
            raise RuntimeError(f"the first answer was {answer.status}")
    raise RuntimeError(f"{source} did not answer: {log.read_text()[-2000:]}")
