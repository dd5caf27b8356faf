"""`nrgkick-pusher proxy KIND`: writes what stands between the wallbox and the cloud.

The wallbox can be given nothing but an address and a port: no https, no token. So a small server on the LAN asks for
it. Here files are written: a folder with configuration, secret, systemd unit, `run` and README.txt; nginx or Caddy does
the serving. `plan` holds what is wanted and judges every input; `nginx`, `caddy` and `tunnels` turn a plan into texts
from the forms (`*.tmpl`) beside them; `folder` writes them; `advice` says what to do next; `command` is the command
line. Only `share` runs later: beside Caddy, which cannot share an answer.

It must never put a token anywhere but into the one secret file, and never a text that was not judged into a form.
Source: design section 3.1; issue "Reach".
"""
