"""What a month costs: the README's table, computed from the operations that the tests count and from Google's prices.

    python -m tests.terraform.costs

Prices are of Belgium (europe-west1), in dollars, as read in 2026-11; they change, so check them before trusting this.
"""

from dataclasses import dataclass, field
from math import ceil, exp

DAY_S = 86_400
MONTH_DAYS = 30
MIB, GIB = 2**20, 2**30


@dataclass(frozen=True)
class Habits:
    """What a house does. The defaults are assumptions, named in the README; the tests count what each act costs."""

    tick_s: float = 5
    """The pusher's tick, and how often the wallbox polls."""
    moving: float = 0.5
    """Share of the ticks in which a value moves by more than the dead-band, so that there is a post."""
    heartbeat_s: float = 20
    send_every_s: float = 300
    row_every_s: float = 60
    row_bytes: int = 400
    retention_days: int = 400
    answer_bytes: int = 1000
    log_line_bytes: int = 400
    requests_per_instance: int = 250
    """Requests a second at which Cloud Run starts another instance; an assumption."""


@dataclass
class Month:
    """The bill: dollars by what they are for."""

    sites: int
    instances: int
    dollars: dict[str, float] = field(default_factory=dict)

    @property
    def total(self) -> float:
        return sum(self.dollars.values())


def month(sites: int, habits: Habits = Habits(), *, metrics: bool = True, exclude_polls: bool = True) -> Month:
    """What so many sites cost in a month of 30 days."""
    polls = DAY_S / habits.tick_s
    posts = habits.moving * DAY_S / habits.tick_s + (1 - habits.moving) * DAY_S / habits.heartbeat_s
    batches = DAY_S / habits.send_every_s
    quarters = DAY_S / 900
    requests = sites * (polls + posts + batches)  # a day
    per_s = requests / DAY_S
    instances = max(1, ceil(per_s / habits.requests_per_instance))
    elsewhere = 1 - 1 / instances  # the chance that another instance wrote last: the precondition fails, one read more

    # A batch spans two quarter hours where one begins in it; a finished day is written once, and each of its quarters.
    writes = sites * (posts + batches + quarters + 1 + quarters)
    # A poll reads once unless this instance wrote or read less than a second ago; a finished day is read once.
    reads = sites * (polls + posts * elsewhere + quarters + 1)
    deletes = sites * quarters

    busy = 1 - exp(-per_s * 0.1) if instances == 1 else instances  # instances that have a request in a slot of 100 ms
    busy_s = busy * DAY_S * MONTH_DAYS

    stored = sites * habits.row_bytes * DAY_S / habits.row_every_s * habits.retention_days
    logged = sites * batches * habits.log_line_bytes * MONTH_DAYS
    if not exclude_polls:
        logged += (requests * 1000 + sites * 1440 * habits.log_line_bytes) * MONTH_DAYS
    samples = sites * 1440 * MONTH_DAYS * 8 if metrics else 0

    def daily(operations: float, free: float, per_100k: float) -> float:
        return max(0, operations - free) * MONTH_DAYS / 1e5 * per_100k

    bill = Month(sites, instances)
    bill.dollars["Cloud Run: CPU and memory"] = max(0, busy_s - 180_000) * 24e-6 + max(0, busy_s / 2 - 360_000) * 2.5e-6
    bill.dollars["Cloud Run: requests"] = max(0, requests * MONTH_DAYS - 2e6) / 1e6 * 0.40
    bill.dollars["Firestore: writes"] = daily(writes, 20_000, 0.099)
    bill.dollars["Firestore: reads"] = daily(reads, 50_000, 0.033)
    bill.dollars["Firestore: deletes"] = daily(deletes, 20_000, 0.011)
    bill.dollars["Firestore: storage"] = max(0, stored / GIB - 1) * 0.165
    bill.dollars["Logging"] = max(0, logged / GIB - 50) * 0.50
    bill.dollars["Metrics by site"] = max(0, samples / MIB - 150) * 0.258
    bill.dollars["Data sent"] = requests * MONTH_DAYS * habits.answer_bytes / GIB * 0.12
    return bill


def table(fleets: tuple[int, ...] = (1, 100, 10_000)) -> str:
    """The README's table."""
    months = [month(sites) for sites in fleets]
    rows = [
        ["dollars a month", *(f"{bill.sites:,} site{'s' if bill.sites > 1 else ''}" for bill in months)],
        ["---", *("---:" for _ in months)],
        ["instances", *(f"{bill.instances}" for bill in months)],
        *([name, *(_money(bill.dollars[name]) for bill in months)] for name in months[0].dollars),
        ["**together**", *(f"**{_money(bill.total)}**" for bill in months)],
        ["a site", *(_money(bill.total / bill.sites) for bill in months)],
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _money(dollars: float) -> str:
    return f"{dollars:,.2f}" if dollars < 10 else f"{dollars:,.0f}"


if __name__ == "__main__":
    print(table())
