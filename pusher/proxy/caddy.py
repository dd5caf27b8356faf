"""The files of kind `caddy`. Written for Caddy 2.6, as Debian 12 has it, and newer.

Caddy has no cache of its own, so each poll of each wallbox is a request to the function, which answers from a copy that
is at most a second old. Nor can it wait for an answer's end: what it buffers (`buffer_responses`) it passes on even if
the rest never came. So it takes only answers that say their length, and the wallbox can tell a part from the whole.
"""

from pusher.proxy import answers
from pusher.proxy.folder import File
from pusher.proxy.forms import fill
from pusher.proxy.plan import Plan

__all__ = ["caddy_files"]

TLS_FORM = """			tls
			tls_timeout 2s
			tls_server_name {host}
"""
OWN_CA_FORM = "\t\t\ttls_trusted_ca_certs {folder}/ca.pem\n"


def caddy_files(plan: Plan) -> list[File]:
    """Configuration, secret and `run`."""
    files = [
        File("Caddyfile", _configuration(plan)),
        File("token", f"{plan.token or ''}\n", mode=0o600),
        File("run", fill("caddy-run", address=plan.listen.address, port=plan.listen.port), mode=0o755),
    ]
    if plan.ca is not None:
        files.append(File("ca.pem", plan.ca.decode("ascii")))
    return files


def _configuration(plan: Plan) -> str:
    tls = ""
    if plan.cloud.is_https:
        tls = TLS_FORM.format(host=plan.cloud.host)
        tls += OWN_CA_FORM.format(folder=plan.folder) if plan.ca is not None else ""
    return fill(
        "caddyfile",
        address=plan.listen.host,
        port=plan.listen.port,
        socket=plan.socket,
        cloud_origin=f"{plan.cloud.scheme}://{plan.cloud.host}:{plan.cloud.port}",
        cloud_authority=plan.cloud.authority,
        cloud_prefix=f"\t\trewrite {plan.cloud.prefix}{{uri}}\n" if plan.cloud.prefix else "",
        tls=tls,
        first_name="Pusher" if plan.edge_first else "Cloud",
        first="pusher" if plan.edge_first else "cloud",
        second="cloud" if plan.edge_first else "pusher",
        # The pusher's own 503 says which device is missing; it is passed on where nobody else is left to ask.
        pusher_errors=" ".join(str(status) for status in answers.NOT_THE_DOCUMENT if status != 503 or plan.edge_first),
        problem_404=answers.NOT_FOUND,
        problem_500=answers.ONLY_GET,
        problem_503=answers.NO_ANSWER,
    )
