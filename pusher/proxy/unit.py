"""The systemd unit: the proxy as a user of its own that may bind one port and ask the pusher's socket."""

from pathlib import Path

from pusher.proxy.folder import File
from pusher.proxy.forms import fill
from pusher.proxy.plan import Kind, Plan, PlanError

__all__ = ["UNIT", "unit_file"]

UNIT = "nrgkick-proxy.service"
HIDDEN = ("/etc/nrgkick-pusher", "/var/lib/nrgkick-pusher", "/var/lib/private/nrgkick-pusher")
"""The pusher's token, outbox and configuration: the unit hides them from the proxy."""
BIND_LOW = "CAP_NET_BIND_SERVICE"


def unit_file(plan: Plan) -> File:
    """The unit of a plan; raises PlanError for a folder that it would hide from itself."""
    for hidden in HIDDEN:
        if plan.folder.is_relative_to(hidden):
            raise PlanError(f"--out {plan.folder}: the proxy is kept away from {hidden}; use /etc/nrgkick-proxy")
        if _below(plan.python, hidden) and plan.kind is Kind.CADDY:
            raise PlanError(f"{plan.python}: the proxy is kept away from {hidden}; install the pusher below /opt")
    places = _places(plan)
    low = plan.listen.needs_capability
    text = fill(
        "service",
        kind=plan.kind,
        folder=plan.folder,
        wants=" tailscaled.service" if plan.kind is Kind.TAILSCALE else "",
        user=_user(plan),
        capabilities=(
            f"# Port {plan.listen.port} without root: this one right, and no other.\nAmbientCapabilities={BIND_LOW}\n"
            f"CapabilityBoundingSet={BIND_LOW}"
            if low
            else "CapabilityBoundingSet="
        ),
        protect_home=_protect_home(plan),
        private_tmp="no" if any(_below(path, "/tmp", "/var/tmp") for path in (*places, plan.socket)) else "yes",  # noqa: S108 - looked for, not used
        write_execute="" if plan.kind is Kind.GCLOUD else "MemoryDenyWriteExecute=yes\n",
    )
    return File(UNIT, text)


def _protect_home(plan: Plan) -> str:
    if plan.kind is Kind.GCLOUD:
        return f"no\nReadWritePaths=-{plan.tunnel.account_home}/.config/gcloud"  # all else there stays read-only
    return "read-only" if any(_below(path, "/home", "/root", "/run/user") for path in _places(plan)) else "yes"


def _places(plan: Plan) -> list[Path]:
    """What the proxy reads: its folder, and for Caddy also the Python beside it."""
    return [plan.folder, plan.python, plan.python.resolve()] if plan.kind is Kind.CADDY else [plan.folder]


def _user(plan: Plan) -> str:
    if plan.kind is Kind.GCLOUD:
        return f"# gcloud works with the login of this user.\nUser={plan.tunnel.account}"
    secrets = {
        Kind.CADDY: ["token"],
        Kind.SSH: ["token.conf", "id_ed25519", "known_hosts"],
        Kind.CLOUDFLARED: ["token.conf", "cloudflared.env"],
    }.get(plan.kind, ["token.conf"])
    lines = ["# The secret stays root's; systemd hands a copy to the proxy alone.", "DynamicUser=yes"]
    return "\n".join([*lines, *(f"LoadCredential={name}:{plan.folder}/{name}" for name in secrets)])


def _below(path: Path, *folders: str) -> bool:
    return any(path.is_relative_to(folder) for folder in folders)
