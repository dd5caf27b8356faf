"""The pusher's copy of its site: what the function last said of it, with the pusher's own newest readings merged in.

From it pusher.sock serves the wallbox when the internet is gone. A restart keeps the settings and which devices there
are; never their values as present ones: all that comes from disk is withdrawn. Source: design section 7.
"""

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from schemas.merge import TooManyPushers, merge
from schemas.messages import LivePost
from schemas.site import Claim, Settings, Site, later

__all__ = ["SiteCopy"]

log = logging.getLogger(__name__)


class SiteCopy:
    """A site as this pusher knows it."""

    def __init__(self, path: Path) -> None:
        """Take the file that survives a restart, and what is in it."""
        self._path = path
        self._site = _from_disk(path)
        self._kept = _worth_keeping(self._site)
        self.own_posts: Callable[[], list[dict[str, Any]]] = list
        """Gives this pusher's newest readings as live posts, oldest first."""

    @property
    def settings(self) -> Settings:
        """The site's settings as last heard; the defaults before that."""
        return self._site.settings

    def take(self, state: Site) -> None:
        """The function has said how the site stands."""
        self._site = state
        self._keep()

    def take_settings(self, settings: Settings | None) -> None:
        """The function has said the site's settings alone."""
        if settings is not None:
            self._site = self._site.model_copy(update={"settings": settings})
            self._keep()

    def at(self, now: datetime) -> Site:
        """The site with our own newest readings in it."""
        site = self._site
        for post in self.own_posts():
            with suppress(TooManyPushers):
                site = merge(site, LivePost.model_validate(post), now)
        return site

    def _keep(self) -> None:
        """Write what is worth keeping, if it changed; a disk that takes nothing costs only the next restart."""
        worth = _worth_keeping(self._site)
        if worth == self._kept:
            return
        self._kept = worth
        draft = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with draft.open("w", encoding="utf-8") as file:
                file.write(self._site.model_dump_json(exclude={"wallbox"}))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        except OSError as error:
            log.warning("the site's settings cannot be kept in %s: %s", self._path, error.strerror or error)


def _worth_keeping(site: Site) -> tuple[Any, ...]:
    described = {name: (said.info, sorted(said.claims)) for name, said in site.pushers.items()}
    return site.settings, described


def _from_disk(path: Path) -> Site:
    """The kept site with every device withdrawn; an empty one if there is none that can be read."""
    try:
        site = Site.model_validate_json(path.read_bytes(), extra="ignore")
    except FileNotFoundError:
        return Site()
    except (OSError, ValidationError) as error:
        log.warning("what was kept of the site in %s cannot be used: %s", path, type(error).__name__)
        return Site()
    return site.model_copy(
        update={
            "pushers": {
                name: said.model_copy(update={"claims": {key: _withdrawn(claim) for key, claim in said.claims.items()}})
                for name, said in site.pushers.items()
            }
        }
    )


def _withdrawn(claim: Claim) -> Claim:
    """The claim as one that says nothing of the present; a millisecond later than its values, so that it wins."""
    last = later(claim.measured_at, claim.withdrawn_at)
    return claim.model_copy(update={"withdrawn_at": last + timedelta(milliseconds=1)}) if last else claim
