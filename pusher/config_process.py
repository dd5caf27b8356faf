"""Judges the configuration in a short-lived process of its own and takes over the result.

What YAML, templates and schemas need in memory (some 8 MB) is thereby never the daemon's, which runs for years.
The child is this same program and user: its pickle is as trustworthy as ourselves.
"""

import pickle
import subprocess
import sys
from pathlib import Path

from pusher.config import Config

__all__ = ["Broken", "judged_config"]

TIMEOUT_S = 120


class Broken(Exception):
    """The configuration cannot be used; the message names everything that is wrong with it."""


def judged_config(path: Path) -> Config:
    """The configuration of a file; raises Broken. Blocks for about a second."""
    command = [sys.executable, "-P", "-m", "pusher.config_process", str(path)]
    child = subprocess.run(command, capture_output=True, check=False, timeout=TIMEOUT_S)  # noqa: S603 - our own
    if child.returncode:
        raise Broken(child.stderr.decode(errors="replace").strip())
    config: Config = pickle.loads(child.stdout)  # noqa: S301 - see above
    return config


def main() -> int:
    """Read, judge, and hand over on stdout; mistakes go to stderr."""
    from pusher.config_file import load_config
    from pusher.yaml_lines import Mistakes

    try:
        config = load_config(Path(sys.argv[1]))
    except Mistakes as mistakes:
        sys.stderr.write(f"{mistakes}\n")
        return 1
    sys.stdout.buffer.write(pickle.dumps(config))
    return 0


if __name__ == "__main__":
    sys.exit(main())
