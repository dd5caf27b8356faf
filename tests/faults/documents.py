"""The contract's documents as the plan means them and as the checker reads them."""

from datetime import UTC, datetime, timedelta
from typing import Any

from schemas.times import format_time, parse_time
from tests.faults.plan import METER, Live, own_device

__all__ = ["live_body", "ms", "names", "seen", "text"]


def live_body(name: str, pusher: int, post: Live, measured_ms: int) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """What a post says, as the checker and as the service want it."""
    values: dict[str, dict[str, Any]] = {}
    devices: dict[str, list[Any]] = {}
    body: dict[str, Any] = {"pusher": name, "measured_at": text(measured_ms), "device_values": values}
    for device, value in post.devices.items():
        category, _, index = device.partition("/")
        key = "grid_power_w" if device == METER else "inv_power_ac_w"
        values.setdefault(category, {})[index] = None if value is None else {key: value}
        devices[device] = [measured_ms, value]
    if post.meter_earlier_ms and METER in devices:
        # The rest by three is two: the time of no post.
        devices[METER][0] = (measured_ms - post.meter_earlier_ms) // 3 * 3 + 2
        body["measured"] = {"energy_meters": {"0": text(devices[METER][0])}}
    if post.describes:
        category, _, index = own_device(pusher).partition("/")
        meter = METER.partition("/")
        body["device_info"] = {category: {index: {"name": name}}, meter[0]: {meter[2]: {"name": "Grid"}}}
    return devices, body


def seen(what: str, answer: Any) -> Any:
    """What of an answer the checker wants."""
    if what == "values":
        return {
            f"{category}/{index}": next(iter(values.values()))
            for category in ("inverters", "energy_meters")
            for index, values in answer["device_values"].get(category, {}).items()
        }
    if what == "site":
        return {
            f"{it['category']}/{it['index']}": [
                next(iter(it["values"].values())) if it["values"] else None,
                ms(parse_time(it["measured_at"])) if it["measured_at"] else None,
                it["withdrawn"],
            ]
            for it in answer["devices"]
        }
    if what == "history":
        return {ms(parse_time(step["start"])): step["load_w"] for step in answer["steps"]}
    if what == "days":
        return {step["start"][:10]: step["load_wh"] for step in answer["steps"]}
    if what == "info":
        return names(answer["device_info"])
    return None


def names(info: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {f"{category}/{index}": it["name"] for category in info for index, it in info[category].items()}


def text(ms: int) -> str:
    return format_time(datetime.fromtimestamp(ms // 1000, UTC).replace(microsecond=ms % 1000 * 1000))


def ms(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
