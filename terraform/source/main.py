# ruff: noqa: INP001
"""The root of the source archive: where functions-framework looks for the target on Google Cloud.

It exists because the framework loads `main.py` beside `requirements.txt`; the function itself is `function/main.py`.
"""

from function.main import nrgkick

__all__ = ["nrgkick"]
