"""What the pusher is told, once it has been read and judged: the parts of the configuration and their bounds.

How they are read from a file, and how mistakes are named, is in `config_file`. A token must never reach a message.
Source: design section 7.
"""

import ipaddress
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, WithJsonSchema, model_validator

from pusher.durations import Duration
from schemas.document import LOAD, BatteryInfo, EnergyMeterInfo, InverterInfo, Part, SmartLoadInfo

__all__ = ["ROLES", "Archive", "Cloud", "Config", "DeviceConfig", "Live", "at_least", "role_title", "size_bytes"]

ROLES: dict[str, tuple[str, type[Part] | None]] = {
    "inverter": ("inverters", InverterInfo),
    "energy_meter": ("energy_meters", EnergyMeterInfo),
    "battery": ("batteries", BatteryInfo),
    "smart_load": ("smart_loads", SmartLoadInfo),
    "load": (LOAD, None),
}
"""What a device is called in the configuration, its category in the document, and the form of its description."""

_SIZES = {"kB": 1_000, "MB": 1_000_000, "GB": 1_000_000_000}


def size_bytes(written: Any) -> int:
    """Bytes of a written size such as `100MB`; raises ValueError for anything else."""
    if isinstance(written, str) and (match := re.fullmatch(r"(\d{1,6})\s?(kB|MB|GB)", written.strip())):
        return int(match[1]) * _SIZES[match[2]]
    raise ValueError('a size is a whole number with its unit, such as "500kB", "100MB" or "2GB"')


def _at_least_100_kb(size: int) -> int:
    if size < 100_000:
        raise ValueError("at least 100kB")
    return size


Size = Annotated[
    int,
    BeforeValidator(size_bytes),
    AfterValidator(_at_least_100_kb),
    WithJsonSchema({"type": "string", "pattern": r"^\d{1,6}\s?(kB|MB|GB)$", "examples": ["100MB"]}),
]
"""A field of a configuration: written as above, held as bytes."""


def _cloud_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError('write the address of the function, such as "https://nrgkick-abc.a.run.app"')
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError('only the address belongs here, without a login and without "?"; the token has its own key')
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ValueError("plain http would show the token to the network; use https (http is for loopback only)")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def at_least(seconds: float, said: str) -> AfterValidator:
    """A bound of a duration, with how it is written."""

    def check(value: float) -> float:
        if value < seconds:
            raise ValueError(f"at least {said}")
        return value

    return AfterValidator(check)


def _at_most_a_quarter_hour(seconds: float) -> float:
    if seconds > 900:
        raise ValueError("at most 15m, for no row crosses a quarter hour; 0s keeps each reading")
    return seconds


class Cloud(Part):
    """Where the function is, and the token that it knows us by."""

    url: Annotated[str, AfterValidator(_cloud_url)]
    token: SecretStr | None = None
    token_file: str | None = Field(None, description="file that holds the token alone")

    @model_validator(mode="after")
    def _one_token(self) -> Self:
        if (self.token is None) == (self.token_file is None):
            raise ValueError('give exactly one of "token_file" and "token"')
        if self.token is not None and not self.token.get_secret_value().strip():
            raise ValueError('"token" is empty')
        return self

    def read_token(self) -> str:
        """The token, from its file anew; raises OSError or ValueError, whose message holds nothing of it."""
        if self.token is not None:
            return self.token.get_secret_value().strip()
        assert self.token_file is not None  # noqa: S101 - the model has just seen to it
        token = Path(self.token_file).read_text(encoding="utf-8").strip()
        if not token or not token.isascii() or not token.isprintable() or " " in token:
            raise ValueError(f'{self.token_file} does not hold one token; write it with "nrgkick-cloud token"')
        return token


class Live(Part):
    """When the live lane posts."""

    dead_band_w: float = Field(20, ge=0, description="a power that moves by more is posted at once, in W")
    heartbeat: Annotated[Duration, at_least(0.2, "200ms")] = Field(20.0, description="longest time between posts")


class Archive(Part):
    """How history is made, sent and bounded."""

    every: Annotated[Duration, AfterValidator(_at_most_a_quarter_hour)] = Field(60.0, description="length of a row")
    send_every: Annotated[Duration, at_least(1, "1s")] = 300.0
    max_bytes: Size = 100_000_000
    max_age: Annotated[Duration, at_least(60, "1m")] = 30 * 86_400.0


@dataclass(frozen=True)
class DeviceConfig:
    """One device: what it is, how often it is read, and by which source."""

    category: str
    index: int
    every_s: float
    timeout_s: float
    kind: str
    options: BaseModel
    info: dict[str, Any] = field(default_factory=dict)
    template: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict, repr=False)
    """What the template was told; may hold secrets."""

    @property
    def key(self) -> str:
        """The device as the state names it, such as `inverters/0`."""
        return LOAD if self.category == LOAD else f"{self.category}/{self.index}"

    @property
    def title(self) -> str:
        """The device as messages name it: `info.name`, else category and index."""
        return str(self.info.get("name") or role_title(self.category, self.index))


@dataclass(frozen=True)
class Config:
    """All that the pusher is told."""

    cloud: Cloud
    pusher: str
    state_dir: Path
    run_dir: Path
    live: Live
    archive: Archive
    devices: tuple[DeviceConfig, ...]

    @property
    def tick_s(self) -> float:
        """The common tick: the shortest `every`."""
        return min(device.every_s for device in self.devices)

    @property
    def socket_path(self) -> Path:
        """Where the pusher answers locally."""
        return self.run_dir / "pusher.sock"


def role_title(category: str, index: int) -> str:
    """Category and index as people say them, such as `energy meter 0`."""
    role = next(role for role, (name, _) in ROLES.items() if name == category).replace("_", " ")
    return "house load" if category == LOAD else f"{role} {index}"
