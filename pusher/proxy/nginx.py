"""The files of kind `nginx`, and of the tunnels, which have the same nginx in front.

nginx is the recommended kind: it alone shares one request to the cloud among all who ask within a second, and passes on
nothing but whole answers. Written for nginx 1.22, as Debian 12 has it, and newer.
"""

from pusher.proxy import answers, tunnels
from pusher.proxy.folder import File
from pusher.proxy.forms import fill
from pusher.proxy.plan import Plan, system_ca
from pusher.proxy.tunnels import Carrier

__all__ = ["nginx_files"]

LEARN = "            set $cloud_said $upstream_http_x_cloud_said;\n"
"""For the log, where the one who was asked before was the cloud."""


def nginx_files(plan: Plan) -> list[File]:
    """Configuration, secret and `run`; for a tunnel also what carries the connection."""
    carrier = tunnels.carrier(plan)
    files = [
        File("nginx.conf", _configuration(plan, carrier)),
        File("token.conf", _secret(plan), mode=0o600),
        File("run", fill("nginx-run", tunnel=_connection(plan, carrier)), mode=0o755),
    ]
    if plan.ca is not None:
        files.append(File("ca.pem", plan.ca.decode("ascii")))
    return [*files, *(carrier.files if carrier else [])]


def _configuration(plan: Plan, carrier: Carrier | None) -> str:
    is_tls = plan.cloud.is_https and not (carrier and carrier.takes_plain_http)
    everything = " ".join(map(str, answers.NOT_THE_DOCUMENT))
    # The pusher's own 503 says which device is missing; it is passed on where nobody else is left to ask.
    all_but_503 = " ".join(str(status) for status in answers.NOT_THE_DOCUMENT if status != 503)
    problems = {"problem_404": answers.NOT_FOUND, "problem_500": answers.ONLY_GET, "problem_503": answers.NO_ANSWER}
    first = "@pusher" if plan.edge_first else "@cloud"
    documents = (fill("nginx-document", document=path, first=first, **problems) for path in answers.DOCUMENTS)
    ca = "ca.pem" if plan.ca is not None else system_ca()
    return fill(
        "nginx.conf",
        kind=plan.kind,
        listen=plan.listen,
        socket=plan.socket,
        documents="".join(documents),
        cloud_pass=f"{'https' if is_tls else 'http'}://cloud{plan.cloud.prefix}",
        cloud_authority=plan.cloud.authority,
        tls=fill("nginx-tls", ca=ca, cloud_host=plan.cloud.host) if is_tls else "",
        all_errors=everything,
        pusher_errors=everything if plan.edge_first else all_but_503,
        after_cloud="@nobody" if plan.edge_first else "@pusher",
        pusher_learns="" if plan.edge_first else LEARN,
        nobody_learns=LEARN if plan.edge_first else "",
        after_pusher="@cloud" if plan.edge_first else "@nobody",
        **problems,
    )


def _secret(plan: Plan) -> str:
    if plan.token is None:
        return "# No token: the function serves its NRGKICK_DEFAULT_SITE to whoever Google lets in.\n"
    return f'# The read token. Only the proxy may read this file.\nproxy_set_header X-NRGkick-Token "{plan.token}";\n'


def _connection(plan: Plan, carrier: Carrier | None) -> str:
    if carrier is None:
        return fill("nginx-follow", cloud_host=plan.cloud.host, cloud_port=plan.cloud.port)
    return fill(
        "nginx-carry",
        carrier_address=carrier.address,
        carrier_setup=carrier.setup,
        tend=fill("tend", what="tunnel", command=carrier.command),
    )
