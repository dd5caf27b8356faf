"""The files of kind `caddy`. Written for Caddy 2.6, as Debian 12 has it, and newer.

Caddy has no cache, and passes on what it has of an answer, whether the rest comes or not. So it asks the cloud through
`pusher.proxy.share`, which `run` keeps beside it with the pusher's own Python.
"""

from pusher.proxy import answers
from pusher.proxy.folder import File
from pusher.proxy.forms import fill
from pusher.proxy.plan import Plan

__all__ = ["caddy_files"]


def caddy_files(plan: Plan) -> list[File]:
    """Configuration, secret and `run`."""
    files = [
        File("Caddyfile", _configuration(plan)),
        File("token", f"{plan.token or ''}\n", mode=0o600),
        File("run", _run(plan), mode=0o755),
    ]
    if plan.ca is not None:
        files.append(File("ca.pem", plan.ca.decode("ascii")))
    return files


def _run(plan: Plan) -> str:
    share = f'exec "$python" -IB -m pusher.proxy.share cloud.sock {plan.cloud.url} "$secrets/token"'
    if plan.ca is not None:
        share += ' --ca "$here/ca.pem"'
    return fill(
        "caddy-run",
        address=plan.listen.address,
        port=plan.listen.port,
        python=plan.python,
        tend=fill("tend", what="reader of the cloud", command=share),
    )


def _configuration(plan: Plan) -> str:
    return fill(
        "caddyfile",
        address=plan.listen.host,
        port=plan.listen.port,
        socket=plan.socket,
        first_name="Pusher" if plan.edge_first else "Cloud",
        first="pusher" if plan.edge_first else "cloud",
        second="cloud" if plan.edge_first else "pusher",
        # The pusher's own 503 says which device is missing; it is passed on where nobody else is left to ask.
        pusher_errors=" ".join(str(status) for status in answers.NOT_THE_DOCUMENT if status != 503 or plan.edge_first),
        problem_404=answers.NOT_FOUND,
        problem_500=answers.ONLY_GET,
        problem_503=answers.NO_ANSWER,
    )
