"""Hypothesis strategies for live posts of a small world, so that ties and collisions are common."""

from datetime import UTC, datetime, timedelta

from hypothesis import settings
from hypothesis import strategies as st

from schemas.messages import LivePost


def examples(times: float) -> settings:
    """So many times the examples that the profile in use takes."""
    return settings(max_examples=round(times * settings.default.max_examples))


EPOCH = datetime(2026, 11, 22, 12, tzinfo=UTC)
moments = st.integers(0, 6).map(lambda seconds: EPOCH + timedelta(seconds=seconds))
watts = st.integers(-3, 3).map(float)


def devices(key: str, power: str, indices: str = "01", **more: st.SearchStrategy) -> st.SearchStrategy:
    device = st.fixed_dictionaries({power: watts}, optional=more)
    return st.dictionaries(st.sampled_from(indices), st.none() | device, max_size=2)


values = st.fixed_dictionaries(
    {},
    optional={
        "inverters": devices("inverters", "inv_power_ac_w", battery_connected=st.booleans()),
        "energy_meters": devices("energy_meters", "grid_power_w"),
        "batteries": devices("batteries", "bat_power_w", "0", soc=st.sampled_from([0.0, 50.0, 99.5])),
        "smart_loads": devices("smart_loads", "sl_power_w", "0"),
        "load_power_w": st.none() | watts,
    },
)
infos = st.fixed_dictionaries(
    {},
    optional={
        "inverters": st.dictionaries(st.sampled_from("01"), st.just({"name": "Roof"})),
        "energy_meters": st.dictionaries(
            st.sampled_from("01"), st.fixed_dictionaries({}, optional={"location": st.integers(0, 2)})
        ),
        "batteries": st.dictionaries(st.sampled_from("03"), st.just({})),
    },
)


@st.composite
def posts(draw: st.DrawFn) -> LivePost:
    """A valid live post, sent on time."""
    given = draw(values)
    measured: dict[str, object] = {}
    for category, members in given.items():
        if category == "load_power_w":
            if draw(st.booleans()):
                measured[category] = draw(moments)
        else:
            own = {index: draw(moments) for index in members if draw(st.booleans())}
            if own:
                measured[category] = own
    return LivePost(
        pusher=draw(st.sampled_from(["a", "b"])),
        sent_at=EPOCH,
        measured_at=draw(moments),
        device_values=given,
        **({"measured": measured} if draw(st.booleans()) else {}),
        **({"device_info": draw(infos)} if draw(st.booleans()) else {}),
    )


def fold(sequence: list[LivePost], settings: dict | None = None):
    """The site after posts in that order, all heard at the same moment."""
    from schemas.merge import merge
    from schemas.site import Settings, Site

    site = Site(settings=Settings(**(settings or {})))
    for post in sequence:
        site = merge(site, post, EPOCH)
    return site
