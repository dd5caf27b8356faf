"""What carries the connection where the cloud cannot be reached directly: ssh, cloudflared, gcloud.

A tunnel is only a pipe: it filters no method, adds no token, knows no pusher.sock. So the same nginx stands in front of
each, and the tunnel ends at nginx, where only this machine reaches it. With tailscale nothing is to be carried: the
system itself has the way, and nginx asks the owner's machine by its name in the tailnet.
"""

from dataclasses import dataclass, field

from pusher.proxy.folder import File
from pusher.proxy.forms import fill
from pusher.proxy.plan import Kind, Plan

__all__ = ["Carrier", "carrier"]


@dataclass(frozen=True, slots=True)
class Carrier:
    """A program that `run` keeps running beside nginx."""

    address: str
    """Where nginx meets it, in nginx's words."""
    command: str
    setup: str = ""
    takes_plain_http: bool = False
    """Whether it does TLS itself; else TLS reaches from nginx through it to the cloud."""
    files: list[File] = field(default_factory=list)


def carrier(plan: Plan) -> Carrier | None:
    """What carries the connection of this plan, if anything has to."""
    match plan.kind:
        case Kind.SSH:
            return _ssh(plan)
        case Kind.CLOUDFLARED:
            return _cloudflared(plan)
        case Kind.GCLOUD:
            return _gcloud(plan)
        case _:
            return None


def _needs(program: str, package: str) -> str:
    return fill("needs", program=program, package=package)


def _ssh(plan: Plan) -> Carrier:
    user, _, host = (plan.tunnel.via or plan.cloud.host).rpartition("@")
    host, _, port = host.partition(":")
    config = fill(
        "ssh_config",
        host=host,
        port=port or 22,
        user=f"\n  User {user}" if user else "",
        target=f"{plan.cloud.host}:{plan.cloud.port}",
    )
    return Carrier(
        address="unix:$state/cloud.sock",
        setup=_needs("ssh", "Debian: apt-get install openssh-client")
        + "export NRGKICK_STATE=$state NRGKICK_SECRETS=$secrets\n",
        command='exec ssh -F "$here/ssh_config" -N cloud',
        files=[File("ssh_config", config)],
    )


def _cloudflared(plan: Plan) -> Carrier:
    local = f"127.0.0.1:{plan.tunnel.port}"
    return Carrier(
        address=local,
        setup=_needs("cloudflared", "see its maker's pages")
        + "set -a # the service token, for cloudflared only takes it from the environment without showing it\n"
        '. "$secrets/cloudflared.env"\nset +a\n',
        command=f"exec cloudflared access tcp --hostname {plan.cloud.host} --url {local}",
        takes_plain_http=True,
        files=[File("cloudflared.env", fill("cloudflared.env"), mode=0o600, is_the_owners=True)],
    )


def _gcloud(plan: Plan) -> Carrier:
    words = ["exec gcloud run services proxy", plan.tunnel.service, f"--port={plan.tunnel.port}"]
    words += [f"--region={plan.tunnel.region}"] if plan.tunnel.region else []
    words += [f"--project={plan.tunnel.project}"] if plan.tunnel.project else []
    return Carrier(
        address=f"127.0.0.1:{plan.tunnel.port}",
        setup=_needs("gcloud", "package google-cloud-cli of Google's own Debian archive")
        + "export CLOUDSDK_CORE_DISABLE_FILE_LOGGING=1 CLOUDSDK_CORE_DISABLE_PROMPTS=1\n",
        command=" ".join([*words, "--quiet"]),
        takes_plain_http=True,
    )
