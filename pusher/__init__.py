"""The edge daemon and its command line: reads devices and posts them. Stands on `schemas`; never imports `function`."""

__all__ = ["VERSION"]

VERSION = "0.1.0"
"""The distribution's version (a test holds it against the package's own); importlib.metadata would cost 2 MB."""
