"""How the pusher does, as `/status` says it: every device, both lanes, the outbox, the clock, the wallbox's document.

`problems` names in words whatever is not well; an empty list is what `status` exits 0 for. Holds no secret.
"""

import time
from typing import Any

from pusher import VERSION
from pusher.clock import monotonic_s
from pusher.config import role_title
from pusher.live import LiveLane
from pusher.outbox import Counts
from pusher.readers import Device
from schemas.render import Documents
from schemas.times import format_time

__all__ = ["status_document"]

REMEMBERED_S = 86_400
"""How long a drop or a dead letter counts as a problem."""
SKEW_LIMIT_S = 60
"""A host's clock that is further off than the function would take (design section 5, Clock) is a problem."""


def status_document(run: Any, documents: Documents) -> dict[str, Any]:
    """The state of a running pusher (`pusher.daemon.Run`) as JSON."""
    now_s = monotonic_s()
    devices = [_device(device, now_s) for device in run.devices]
    live = _live(run.live, now_s)
    counts = run.archive.counts
    skew_s = round(time.time() - now_s - run.clock.offset_s, 1)
    problems = [f"{device['title']}: {device['error']}" for device in devices if device["error"]]
    problems += [f"{device['title']} has not been read yet" for device in devices if not device["read_yet"]]
    problems += [live["error"]] if live["error"] else []
    problems += ["the live lane has not got through yet"] if live["last_s"] is None and not live["error"] else []
    if live["last_s"] is not None and live["last_s"] > 2 * live["heartbeat_s"] + 2 * run.config.tick_s:
        problems.append(f"the live lane last got through {live['last_s']:.0f} s ago")
    problems += [run.archive.error] if run.archive.error else []
    problems += _outbox_problems(counts)
    problems += run.failures
    host_is_off = run.clock.known and abs(skew_s) > SKEW_LIMIT_S
    if host_is_off:
        problems.append(
            f"the host's clock is {abs(skew_s):.0f} s {'ahead' if skew_s > 0 else 'behind'}; set it, for certificates "
            "and rows made without the function go by it"
        )
    return {
        "pusher": run.config.pusher,
        "version": VERSION,
        "well": not problems,
        "problems": problems,
        "devices": devices,
        "live": live,
        "archive": {
            "error": run.archive.error,
            "last_s": _ago(run.archive.sent_at_s, now_s),
            "rows": counts.rows,
            "bytes": counts.bytes,
            "oldest": format_time(run.oldest) if run.oldest else None,
            "dropped": counts.dropped,
            "dead_letters": counts.dead,
            "in_memory": counts.in_memory,
            "disk": counts.trouble,
        },
        "held": sorted(set(run.holds.reasons.values())) if run.holds.left_s() else [],
        "clock": {"known": run.clock.known, "now": format_time(run.clock.now()), "host_ahead_s": skew_s,
                  "host_is_off": host_is_off},
        "wallbox": {
            "status": 200 if documents.values is not None else 503,
            "detail": documents.detail,
            **(documents.values or {"device_values": None}),
        },
    }  # fmt: skip


def _device(device: Device, now_s: float) -> dict[str, Any]:
    newest = device.newest
    index = device.config.index
    return {
        "device": role_title(device.config.category, index),
        "title": device.title,
        "source": device.config.template or device.config.kind,
        "values": newest.values if newest else None,
        "age_s": _ago(newest.taken_at_s, now_s) if newest else None,
        "error": device.error,
        "withdrawn": device.withdrawn_at_s(now_s) is not None,
        "read_yet": newest is not None or device.error is not None,
    }


def _live(lane: LiveLane, now_s: float) -> dict[str, Any]:
    return {
        "error": lane.error,
        "last_s": _ago(lane.posted_at_s, now_s),
        "heartbeat_s": lane.heartbeat_s,
        "posts": lane.posts,
    }


def _ago(moment_s: float | None, now_s: float) -> float | None:
    return None if moment_s is None else round(now_s - moment_s, 1)


def _outbox_problems(counts: Counts) -> list[str]:
    problems = [f"rows wait in memory: {counts.trouble}"] if counts.trouble else []
    now_s = time.time()
    if counts.dropped_at_s is not None and now_s - counts.dropped_at_s < REMEMBERED_S:
        problems.append(f"rows were dropped within a day ({counts.dropped} in all), for the outbox was full or too old")
    if counts.dead_at_s is not None and now_s - counts.dead_at_s < REMEMBERED_S:
        problems.append(f"rows were refused within a day ({counts.dead} dead letters are kept)")
    return problems
