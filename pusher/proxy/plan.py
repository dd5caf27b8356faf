"""What a proxy shall be: every input judged before it reaches a configuration file.

The forms of nginx, Caddy, ssh and systemd each have their own quoting; nothing that would need any passes here, so that
no input can say more than it is asked. Raises PlanError, whose message names the option and what to write instead.
"""

import ipaddress
import os
import re
import socket
import ssl
import stat
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

__all__ = [
    "Cloud",
    "Kind",
    "Listen",
    "Plan",
    "PlanError",
    "Tunnel",
    "as_cloud",
    "as_listen",
    "as_name",
    "as_path",
    "as_socket",
    "is_here",
    "read_ca",
    "read_token",
    "readable_by_others",
    "system_ca",
]


class PlanError(ValueError):
    """An input that cannot be used, and what to write instead."""


class Kind(StrEnum):
    """What can stand between the wallbox and the cloud."""

    NGINX = "nginx"
    CADDY = "caddy"
    SSH = "ssh"
    CLOUDFLARED = "cloudflared"
    TAILSCALE = "tailscale"
    GCLOUD = "gcloud"


@dataclass(frozen=True, slots=True)
class Listen:
    """Where the wallbox asks: one address of this machine, never all of them."""

    address: str
    port: int

    def __str__(self) -> str:
        """As the files write it; an IPv6 address in brackets."""
        return f"{self.host}:{self.port}"

    @property
    def host(self) -> str:
        """The address, in brackets if it is IPv6."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @property
    def needs_capability(self) -> bool:
        """Whether Linux gives the port to privileged processes only."""
        return self.port < 1024


@dataclass(frozen=True, slots=True)
class Cloud:
    """Where the function is."""

    scheme: str
    host: str
    port: int
    prefix: str
    """Path before `/api/v1/...`, such as `/nrgkick`, or empty."""

    @property
    def is_https(self) -> bool:
        """Whether certificate and host name are verified."""
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """Host, and port where it is not the scheme's own: what goes into the Host header."""
        return self.host if self.port == (443 if self.is_https else 80) else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return f"{self.scheme}://{self.authority}{self.prefix}"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What only the tunnel kinds need."""

    via: str | None = None
    """ssh: `user@host` or `host`, the owner's machine that the connection goes through."""
    port: int = 18080
    """Loopback port between nginx and a tunnel that cannot use a Unix socket."""
    service: str = "nrgkick"
    region: str | None = None
    project: str | None = None
    account: str = "root"
    """gcloud: the local user whose login is used, and where that user's login is kept."""
    account_home: Path = Path("/root")


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the files are made from."""

    kind: Kind
    folder: Path
    listen: Listen
    cloud: Cloud
    token: str | None
    """The read token; None: the function serves NRGKICK_DEFAULT_SITE without one."""
    socket: Path
    python: Path
    """caddy: the Python that has this package."""
    ca: bytes | None
    """Authorities to trust instead of the system's, PEM."""
    edge_first: bool = False
    tunnel: Tunnel = Tunnel()


def as_listen(text: str) -> Listen:
    """`ADDRESS:PORT`, with `[...]` around an IPv6 address."""
    match = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([0-9.]+)):([0-9]{1,5})", text)
    example = 'write address and port of this machine in the LAN, such as "192.168.1.10:1000" or "[fd00::10]:1000"'
    if not match or not 1 <= int(match[3]) <= 65535:
        raise PlanError(f"--listen {_shown(text)}: {example}")
    try:
        address = ipaddress.ip_address(match[1] or match[2])
    except ValueError:
        raise PlanError(f"--listen {_shown(text)}: this is no address; {example}") from None
    if address.is_unspecified:
        raise PlanError(f"--listen {text}: this would answer on every network of the machine; {example}")
    if address.is_multicast or (address.version == 4 and address.is_reserved):
        raise PlanError(f"--listen {text}: no machine has this address; {example}")
    return Listen(str(address), int(match[3]))


def is_here(listen: Listen) -> bool:
    """Whether this machine has the address now."""
    with socket.socket(socket.AF_INET6 if ":" in listen.address else socket.AF_INET) as probe:
        try:
            probe.bind((listen.address, 0))
        except OSError:
            return False
        return True


def as_cloud(text: str) -> Cloud:
    """The function's address: https, or plain http to loopback only, as for the pusher."""
    example = 'write the address of the function, such as "https://nrgkick-abc.a.run.app"'
    match = re.fullmatch(r"(https?)://([A-Za-z0-9.-]+)(?::([0-9]{1,5}))?((?:/[A-Za-z0-9._~-]+)*)/?", text)
    if not match or not 1 <= int(match[3] or 1) <= 65535:
        raise PlanError(f"--cloud {_shown(text)}: {example}; no login, no query, nothing that needs escaping")
    scheme, host, prefix = match[1], match[2].lower(), match[4]
    if re.fullmatch(r"[0-9.]+", host):
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            raise PlanError(f"--cloud {_shown(text)}: {host} is no address; {example}") from None
        if scheme == "https":
            raise PlanError(f"--cloud {text}: a certificate is checked against a name; {example}")
    elif not re.fullmatch(r"(?!-)[a-z0-9-]{1,63}(?<!-)(\.(?!-)[a-z0-9-]{1,63}(?<!-))*", host) or len(host) > 253:
        raise PlanError(f"--cloud {_shown(text)}: {host[:80]} is no host name; {example}")
    else:
        loopback = host == "localhost"
    if scheme == "http" and not loopback:
        raise PlanError(
            f"--cloud {text}: plain http would show the token to the network; use https (http is for loopback only)"
        )
    if any(set(part) == {"."} for part in prefix.split("/") if part):
        raise PlanError(f"--cloud {text}: a path with dots is not passed on; {example}")
    before, documents, _ = text.partition("/api/v1")
    if documents:
        raise PlanError(f'--cloud {text}: the proxy adds the path of the documents itself; write "{before}"')
    return Cloud(scheme, host, int(match[3] or (443 if scheme == "https" else 80)), prefix)


def as_path(option: str, path: Path) -> Path:
    """An absolute path that every form can hold without quoting."""
    try:
        absolute = path.expanduser().absolute()
    except RuntimeError:
        raise PlanError(f"{option} {_shown(str(path))}: there is no such user; write the whole path") from None
    if not re.fullmatch(r"/[\w./+@:~,=-]*", str(absolute)):
        raise PlanError(
            f"{option} {_shown(str(path))}: use letters, digits and . _ - + @ : ~ , = only; nginx and systemd would "
            "read other characters as their own"
        )
    return absolute


SOCKET_PATH_BYTES = 107
"""The longest path that a Unix socket can have (unix(7): `sun_path`)."""


def as_socket(option: str, path: Path) -> Path:
    """A path at which a Unix socket is, or will be."""
    absolute = as_path(option, path)
    if os.path.isdir(absolute):  # noqa: PTH112 - where nobody may look, it is none
        raise PlanError(f"{option} {absolute}: this is a folder; write {absolute / 'pusher.sock'}")
    if len(bytes(absolute)) > SOCKET_PATH_BYTES:
        raise PlanError(f"{option} {absolute}: no socket can have a path of more than {SOCKET_PATH_BYTES} bytes")
    return absolute


def as_name(option: str, text: str, pattern: str, example: str) -> str:
    """A name that a tunnel is given; `pattern` is all that it may hold."""
    if not re.fullmatch(pattern, text):
        raise PlanError(f'{option} {_shown(text)}: write it as in "{example}"')
    return text


def read_token(path: Path) -> str:
    """The token that a file holds alone. No message holds anything of it."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise PlanError(
            f"--token-file {path}: {error.strerror or error}; make one with: "
            "nrgkick-cloud token --site home --scope read > read-token"
        ) from None
    except UnicodeDecodeError:
        token = ""
    if not re.fullmatch(r"[A-Za-z0-9._~+/=-]{1,4096}", token):
        raise PlanError(
            f"--token-file {path}: the file does not hold one token and nothing else; make one with: "
            "nrgkick-cloud token --site home --scope read > read-token"
        )
    return token


def readable_by_others(path: Path) -> bool:
    """Whether a file with a secret can be read by more than its owner."""
    return bool(path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH))


def read_ca(path: Path) -> bytes:
    """A file of certificates that are trusted instead of the system's."""
    try:
        pem = path.read_bytes()
        ssl.create_default_context().load_verify_locations(cadata=pem.decode("ascii"))
    except OSError as error:
        what = "it holds no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror or error
        raise PlanError(f"--ca {path}: {what}; give the authority's certificate as PEM") from None
    except ValueError:
        raise PlanError(f"--ca {path}: it is no text; give the authority's certificate as PEM") from None
    return pem


SYSTEM_CA = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where Debian, Fedora, SUSE and Alpine keep the authorities that they trust."""


def system_ca() -> Path:
    """The system's authorities, for nginx trusts nobody by itself."""
    for place in SYSTEM_CA:
        if Path(place).is_file():
            return Path(place)
    raise PlanError("this machine has no list of trusted authorities: apt-get install ca-certificates, or --ca FILE")


def _shown(text: str) -> str:
    return repr(text[:120])
