"""What the function says while it runs: one JSON line per event on Google Cloud, one plain line elsewhere.

Never log a token, a header or a body; a device's name is data, not text, and never a terminal's command. Fields are
those that Cloud Logging knows (https://cloud.google.com/logging/docs/structured-logging) and those that Terraform's
metrics count.
"""

import json
import os
import sys
import time
from collections import OrderedDict
from typing import Any

from starlette.requests import Request

__all__ = ["log", "log_now_and_then"]

QUIET_S = 60
REMEMBERED = 10_000
_last_said: OrderedDict[tuple[str, str], float] = OrderedDict()


def log_now_and_then(severity: str, message: str, request: Request, *, event: str, site: str) -> None:
    """Write an event of a site, at most once a minute: what comes with every poll would cost more than the answer."""
    at_s = time.monotonic()
    if at_s - _last_said.get((event, site), -QUIET_S) < QUIET_S:
        return
    _last_said[event, site] = at_s
    _last_said.move_to_end((event, site))
    if len(_last_said) > REMEMBERED:
        _last_said.popitem(last=False)
    log(severity, message, request, event=event, site=site)


def log(severity: str, message: str, request: Request | None = None, **fields: Any) -> None:
    """Write one event: `severity` as Cloud Logging has it, a sentence, and what it is about."""
    if not os.environ.get("K_SERVICE"):
        details = " ".join(f"{name}={json.dumps(value)}" for name, value in fields.items())
        line = " ".join(message.split()) if severity != "ERROR" else message
        line = "".join(
            letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in line
        )
        sys.stderr.write(f"{severity.lower()}: {line}{' ' + details if details else ''}\n")
        return
    entry: dict[str, Any] = {"severity": severity, "message": message, **fields}
    project = os.environ.get("GOOGLE_CLOUD_PROJECT")
    trace = request.headers.get("x-cloud-trace-context", "").partition("/")[0] if request else ""
    if project and trace.isalnum():
        entry["logging.googleapis.com/trace"] = f"projects/{project}/traces/{trace}"
    sys.stdout.write(json.dumps(entry) + "\n")
    sys.stdout.flush()
