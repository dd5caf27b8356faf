"""One run: clients at work, a fault comes and goes, all comes to rest, everything is looked at once more."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.faults.checker import RECOVERED_WITHIN_S
from tests.faults.clients import SITE, Clients
from tests.faults.history import Event, History, Operation
from tests.faults.plan import FAULTS, INSTANCES, header_of
from tests.faults.world import World

__all__ = ["run"]

REST_S = 1.1
"""After it no copy is older than what was last acknowledged."""
BEFORE_MIDNIGHT_S = 2.0

Say = Callable[[str], None]


async def run(
    world: World, fault_name: str, seed: int, load_s: tuple[float, float, float], say: Say, site: str = SITE
) -> History:
    """The history of one fault; `load_s`: before, in and after it."""
    fault = FAULTS[fault_name]
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    ahead_s = (midnight - now).total_seconds() - BEFORE_MIDNIGHT_S if fault.at_midnight else 0.0
    spoiled_before = len(world.spoiled)
    await asyncio.to_thread(world.start, tuple(ahead_s + clock_s for clock_s in fault.clocks_s))
    clients = Clients(header_of(seed, fault, world.kind, list(load_s)), world.urls, ahead_s=ahead_s, site=site)
    recovered = asyncio.Event()
    wanted = _wanted(clients.history)
    try:
        await clients.open()
        clients.start()
        say(f"{fault.name} on {world.kind}, seed {seed}: {fault.text}")
        await asyncio.sleep(load_s[0])
        clients.note("fault begins")
        say(f"  {clients.at_s():.0f} s: it begins, after {len(clients.history.operations)} operations")
        await world.suffer(fault, load_s[1], lambda event, detail: clients.note(event, detail))
        clients.note("fault ends")
        ended_s = clients.at_s()
        say(f"  {ended_s:.0f} s: it is over, after {len(clients.history.operations)} operations")

        def watch(operation: Operation) -> None:
            if operation.status == 200 and operation.invoked_s >= ended_s:
                wanted.discard((operation.op, operation.instance))
            if not wanted:
                recovered.set()

        clients.on_answer = watch
        await asyncio.sleep(load_s[2])
        try:
            await asyncio.wait_for(recovered.wait(), RECOVERED_WITHIN_S - load_s[2])
        except TimeoutError:
            say(f"  not recovered after {RECOVERED_WITHIN_S:g} s: {sorted(wanted)}")
        await clients.stop()
        await asyncio.sleep(REST_S)
        await asyncio.gather(*clients.look_at_last())
        clients.remember_archive(await world.archive(site, *clients.span))
    finally:
        await clients.close()
    at_s = clients.at_s()
    for spoiled in world.spoiled[spoiled_before:]:
        what = f"{spoiled['rpc']} {spoiled['code'] or ''} {spoiled['when']} {spoiled['delay_s']:g} s"
        clients.history.events.append(Event("rpc spoiled", at_s, what))
    return clients.history


def _wanted(history: History) -> set[tuple[str, int]]:
    """What each instance must do again before the run may end."""
    clocks_s = history.header.clocks_s
    return {
        (op, instance)
        for op in ("live", "readings", "site")
        for instance in range(INSTANCES)
        if op == "site" or abs(clocks_s[instance]) <= 60
    }
