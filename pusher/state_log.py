"""Logs each change of a state once, not each repetition: a device that stays dead says so one time."""

import logging

__all__ = ["StateLog"]


class StateLog:
    """Remembers what is wrong, by topic."""

    def __init__(self, log: logging.Logger) -> None:
        """Take where changes are logged."""
        self._log = log
        self._bad: dict[str, str] = {}

    def bad(self, topic: str, message: str, *, kind: str = "") -> None:
        """Something is wrong; said when it begins, and again only when it is wrong in another `kind` of way."""
        if self._bad.get(topic) != kind:
            self._bad[topic] = kind
            self._log.warning("%s", message)

    def good(self, topic: str, message: str) -> None:
        """All is well; said only if it was not, or was never looked at."""
        if self._bad.pop(topic, None) is not None:
            self._log.info("%s again", message)
