"""`nrgkick-pusher proxy KIND`: takes the words, fills in what the pusher's configuration knows, writes the folder.

Prints the names of files and what to do next; never a token.
"""

import getpass
import os
import re
import socket
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from pusher.proxy import plan as plans
from pusher.proxy.plan import Cloud, Kind, Plan, PlanError, Tunnel

__all__ = ["proxy_command"]

DEFAULT_PORT = 1000  # as in the manufacturer's guide
NO_CLOUD = (
    "--cloud is missing: write the address of the function, such as --cloud https://nrgkick-abc.a.run.app "
    "(cloud.url of a pusher.yaml in this folder would do as well)"
)
DEFAULT_RUN_DIR = "/run/nrgkick-pusher"


def proxy_command(
    *,
    kind: Annotated[Kind, typer.Argument(help="nginx is the recommended one; the last four are tunnels.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to fill.")] = Path("nrgkick-proxy"),
    listen: Annotated[
        str | None, typer.Option(metavar="ADDRESS:PORT", help="Where the wallbox asks. Default: the LAN address, 1000.")
    ] = None,
    cloud: Annotated[
        str | None, typer.Option(metavar="URL", help="The function. Default: cloud.url of the pusher's configuration.")
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Read token; only gcloud can do without.")
    ] = None,
    local_socket: Annotated[
        Path | None, typer.Option("--socket", metavar="PATH", help="Default: pusher.sock in the pusher's run_dir.")
    ] = None,
    ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Authority to trust for the cloud instead of the system's.")
    ] = None,
    edge_first: Annotated[
        bool, typer.Option("--edge-first", help="Ask the pusher first, and the cloud only without it.")
    ] = False,
    via: Annotated[str | None, typer.Option(metavar="USER@HOST[:PORT]", help="ssh: your machine on the way.")] = None,
    service: Annotated[str | None, typer.Option(help="gcloud: name of the Cloud Run service.")] = None,
    region: Annotated[str | None, typer.Option(help="gcloud: its region.")] = None,
    project: Annotated[str | None, typer.Option(help="gcloud: its project.")] = None,
    tunnel_port: Annotated[
        int, typer.Option(min=1024, max=65535, help="gcloud, cloudflared: loopback port between nginx and the tunnel.")
    ] = 18080,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The pusher's configuration, for defaults.")
    ] = None,
) -> None:
    """Write the proxy between the wallbox and the cloud: configuration, secret, systemd unit, `run`.

    Example: nrgkick-pusher proxy nginx --out nrgkick-proxy --listen 192.168.1.10:1000
    --cloud https://nrgkick-abc.a.run.app --token-file read-token
    """
    try:
        known = _known(config)
        where = plans.as_cloud(cloud or known.get("url") or _end(NO_CLOUD))
        plan = plans.Plan(
            kind=kind,
            folder=plans.as_path("--out", out),
            listen=plans.as_listen(listen or _lan_listen()),
            cloud=where,
            token=_token(kind, token_file),
            socket=plans.as_socket(
                "--socket", local_socket or Path(known.get("run_dir") or DEFAULT_RUN_DIR) / "pusher.sock"
            ),
            ca=plans.read_ca(ca) if ca else None,
            edge_first=edge_first,
            tunnel=_tunnel(kind, where, via, service, region, project, tunnel_port),
            python=_python(kind),
        )
        _write(plan, [path for path in (token_file, ca) if path])
    except PlanError as error:
        _end(str(error))
    except OSError as error:
        mend = "call this with sudo, or choose" if isinstance(error, PermissionError) else "choose"
        _end(f"--out {out}: {error.strerror or error}; {mend} another folder")
    if not plans.is_here(plan.listen):
        _warn(f"{plan.listen.address} is no address of this machine at the moment; the proxy cannot start until it is")
    if token_file and plans.readable_by_others(token_file):
        _warn(f"{token_file} can be read by other users of this machine; run: chmod 600 {token_file}")


def _write(plan: Plan, given: list[Path]) -> None:
    from pusher.proxy.advice import advice
    from pusher.proxy.caddy import caddy_files
    from pusher.proxy.folder import Changes, File, write_files
    from pusher.proxy.nginx import nginx_files
    from pusher.proxy.unit import unit_file

    text = advice(plan)
    files = caddy_files(plan) if plan.kind is Kind.CADDY else nginx_files(plan)
    changes = write_files(plan.folder, [*files, unit_file(plan), File("README.txt", text)], given)
    if changes == Changes([], []):
        typer.echo(f"{plan.folder} is as it should be; nothing was changed. What to do with it: README.txt there")
        return
    if changes.written:
        typer.echo(f"{plan.folder}: wrote {', '.join(changes.written)}")
    if changes.removed:
        typer.echo(f"{plan.folder}: removed {', '.join(changes.removed)}, which an earlier call had written")
    typer.echo(f"\n{text}", nl=False)


def _known(config: Path | None) -> dict[str, str]:
    """What the pusher's configuration says, if there is one; nothing else in it matters here."""
    from pusher.config_file import default_path
    from pusher.yaml_lines import Mistakes, read_yaml

    path = config or default_path()
    if config is None and not path.exists():
        return {}
    try:
        data = read_yaml(path).data
    except Mistakes as mistakes:
        if config is None:
            return {}
        raise PlanError(str(mistakes)) from None
    data = data if isinstance(data, dict) else {}
    cloud = data.get("cloud")
    found = {"url": cloud.get("url") if isinstance(cloud, dict) else None, "run_dir": data.get("run_dir")}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def _lan_listen() -> str:
    """The machine's address in the LAN: the one that a packet to the outside would bear. None is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # an address for documentation, RFC 5737
        except OSError:
            raise PlanError(
                "--listen is missing, and this machine is in no network; name an address and a port"
            ) from None
        return f"{probe.getsockname()[0]}:{DEFAULT_PORT}"


def _python(kind: Kind) -> Path:
    """The Python that this package is installed for; only Caddy's `run` names it."""
    path = Path(sys.executable)
    return plans.as_path("the pusher's own Python", path) if kind is Kind.CADDY else path


def _token(kind: Kind, file: Path | None) -> str | None:
    if file is not None:
        return plans.read_token(file)
    if kind is Kind.GCLOUD:
        return None
    raise PlanError(
        "--token-file is missing; the pusher's own token may not read, so make one that does: "
        "nrgkick-cloud token --site home --scope read > read-token"
    )


def _tunnel(
    kind: Kind,
    cloud: Cloud,
    via: str | None,
    service: str | None,
    region: str | None,
    project: str | None,
    port: int,
) -> Tunnel:
    if kind is Kind.SSH and via is None and cloud.host.endswith((".run.app", ".cloudfunctions.net")):
        _warn(f"there is no ssh at {cloud.host}; name a machine of yours with --via user@host, and call this again")
    account = os.environ.get("SUDO_USER") or getpass.getuser()
    name = r"[a-z0-9][a-z0-9.:-]{0,127}"
    return Tunnel(
        via=via
        and plans.as_name("--via", via, r"([\w][\w.-]*@)?[A-Za-z0-9][A-Za-z0-9.-]*(:[0-9]{1,5})?", "me@vps.example:22"),
        port=port,
        service=plans.as_name("--service", service or _service_in(cloud.host), name, "nrgkick"),
        region=region and plans.as_name("--region", region, name, "europe-west1"),
        project=project and plans.as_name("--project", project, name, "my-project"),
        account=plans.as_name("the user", account, r"[A-Za-z_][\w.-]{0,63}", "pi"),
        account_home=plans.as_path("the user's home", Path(f"~{account}")),
    )


def _service_in(host: str) -> str:
    """The service that a Cloud Run address names: `nrgkick-abc-ew.a.run.app`, `nrgkick-123456.europe-west1.run.app`."""
    match = re.fullmatch(r"([a-z0-9-]+?)(?:-[a-z0-9]+-[a-z]{2}\.a|-[a-z0-9]+(?:\.a|\.[a-z0-9-]+))\.run\.app", host)
    return match[1] if match else "nrgkick"


def _warn(message: str) -> None:
    typer.echo(f"Warning: {message}", err=True)


def _end(message: str) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(1)
