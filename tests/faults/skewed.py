"""`nrgkick-cloud` with a wall clock that is wrong: python -m tests.faults.skewed AHEAD_S COMMAND ...

Shifts the one clock that the function reads for requests (and the embedded store's), and nothing else: timeouts, the
event loop and TLS run on as they are, which a fake clock under the whole process would not grant.
"""

import sys
from datetime import datetime, timedelta, tzinfo
from typing import Any

import function.app
import function.cli
import function.stores.sqlite


def shifted(ahead: timedelta) -> type[datetime]:
    """`datetime`, but for the present."""

    class Shifted(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return datetime.now(tz) + ahead

    return Shifted


if __name__ == "__main__":
    clock = shifted(timedelta(seconds=float(sys.argv.pop(1))))
    for module in (function.app, function.stores.sqlite):
        vars(module)["datetime"] = clock
    function.cli.main()
