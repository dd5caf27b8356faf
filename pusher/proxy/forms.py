"""The forms of the files, and how they are filled in: `<<name>>` stands for a judged value.

Neither nginx, Caddy, ssh, systemd nor bash writes anything as `<<name>>`, so a form reads as the file that it becomes.
"""

import re
from importlib.resources import files

__all__ = ["fill"]


def fill(form: str, **values: object) -> str:
    """The text of a form with every blank filled in; a blank without a value is a KeyError."""
    text = files("pusher.proxy").joinpath(f"{form}.tmpl").read_text(encoding="utf-8")
    return re.sub(r"<<(\w+)>>", lambda match: str(values[match[1]]), text)
