"""The cloud function: routes, tokens, storage. Stands on `schemas`; never imports `pusher`."""
