"""What is the owner's alone, taken out of what a device says, so that the rest may be shown to anyone.

Keys that name such things, texts that look like them, and words that the caller knows to be private are replaced;
measured values stay. Pure. It rather removes too much than too little.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

__all__ = ["REMOVED", "Redaction", "is_private_key", "without_names"]

REMOVED = "removed"
ASCII_RUN = 4
"""So many registers in a row that hold only printable characters are a name or a serial number, not numbers."""
_WORD_LENGTH = 4
"""A shorter private word is removed only where it is the whole text: it may be a part of any other."""

_PRIVATE_KEY = re.compile(
    r"serial|token|passw|secret|ssid|mac(_|$|addr)|uuid|imei|imsi|iccid|unique|mail|latitude|longitude|host|user|address"
    r"|(^|_)(sn|ip|ipv4|ipv6|id|did|gateway|dns|lat|lon|owner|city|street|phone)$|(^|_|api)key$",
    re.IGNORECASE,
)
_PRIVATE_TEXT = re.compile(
    r"\b\d{1,3}(\.\d{1,3}){3}\b"  # IPv4
    r"|\b[0-9a-f]{2}([:-][0-9a-f]{2}){5}\b"  # MAC
    r"|[\w.+-]+@[\w-]+\.[\w.]+"  # mail
    r"|\b(?:[0-9a-f]{1,4}:){3,7}[0-9a-f]{0,4}\b"  # IPv6
    r"|\beyJ[\w.-]+"  # JWT
    r"|\b(?=\w*\d)[0-9a-z]{10,}\b",  # serial numbers, MACs without colons, hashes
    re.IGNORECASE,
)


def is_private_key(key: str) -> bool:
    """Whether what stands under a key of this name is the owner's alone."""
    return _PRIVATE_KEY.search(key) is not None


class Redaction:
    """Takes out what looks private, and the words that are known to be."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._words = sorted({word for word in words if word}, key=len, reverse=True)

    def text(self, text: str) -> str:
        """A text, a path or a topic without what is private."""
        for word in self._words:
            if text == word:
                return REMOVED
            if len(word) >= _WORD_LENGTH:
                text = text.replace(word, REMOVED)
        return _PRIVATE_TEXT.sub(REMOVED, text)

    def document(self, node: Any, key: str = "") -> Any:
        """A copy of a JSON document in which a private text says so, and a private number is 0."""
        if isinstance(node, dict):
            return {self.text(str(name)): self.document(value, str(name)) for name, value in node.items()}
        if isinstance(node, list):
            return [self.document(item, key) for item in node]
        if isinstance(node, bool) or node is None:
            return node
        if is_private_key(key):
            return REMOVED if isinstance(node, str) else 0
        return self.text(node) if isinstance(node, str) else node


def without_names(words: list[int], kept: Collection[int] = ()) -> list[int]:
    """Registers with every longer run of text replaced by zeros, but for the positions that are known to be numbers."""
    texts = [
        position not in kept and all(32 <= byte < 127 for byte in divmod(word, 256))
        for position, word in enumerate(words)
    ]
    cleaned, position = list(words), 0
    while position < len(words):
        end = position
        while end < len(words) and texts[end]:
            end += 1
        if end - position >= ASCII_RUN:
            cleaned[position:end] = [0] * (end - position)
        position = max(end, position + 1)
    return cleaned
