"""What to do next, in words: printed by the command and kept as README.txt beside the files.

Says for each kind what it is for, where the files go, how they are started and how to try them. Holds no secret.
"""

from pusher.proxy.forms import fill
from pusher.proxy.plan import Kind, Plan
from pusher.proxy.unit import UNIT

__all__ = ["advice"]


def advice(plan: Plan) -> str:
    """The whole of README.txt."""
    low_port = fill("readme-low-port", port=plan.listen.port, host=plan.listen.host)
    return fill(
        "readme",
        about=fill(f"about-{plan.kind}", **_words(plan)),
        folder=plan.folder,
        unit=UNIT,
        kind=plan.kind,
        address=plan.listen.address,
        port=plan.listen.port,
        listen=plan.listen,
        cloud=plan.cloud.url,
        socket=plan.socket,
        first=f"{plan.socket}, then {plan.cloud.url}" if plan.edge_first else f"{plan.cloud.url}, then {plan.socket}",
        owner=plan.tunnel.account if plan.kind is Kind.GCLOUD else "root",
        secret="token" if plan.kind is Kind.CADDY else "token.conf",
        in_the_log="whoever was asked first, unless it was the document"
        if plan.kind is Kind.CADDY
        else "each who was asked",
        low_port=low_port if plan.listen.needs_capability else "",
    )


def _words(plan: Plan) -> dict[str, object]:
    via = plan.tunnel.via or plan.cloud.host
    host, _, port = via.rpartition("@")[2].partition(":")
    return {
        "folder": plan.folder,
        "host": plan.cloud.host,
        "target": f"{plan.cloud.host}:{plan.cloud.port}",
        "via": via,
        "via_host": host,
        "via_port": port or 22,
        "service": plan.tunnel.service,
        "account": plan.tunnel.account,
        "python": plan.python,
    }
