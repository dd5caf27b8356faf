"""One run: clients at work, a fault comes and goes, all comes to rest, everything is looked at once more."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from tests.faults.clients import SITE, Clients
from tests.faults.history import Event, History, Operation
from tests.faults.plan import FAULTS, header_of
from tests.faults.recovery_rules import RECOVERED_WITHIN_S, wanted
from tests.faults.world import World

__all__ = ["run"]

REST_S = 1.1
"""After it no copy is older than what was last acknowledged."""
BEFORE_MIDNIGHT_S = 2.0
LANDED_S = 0.5
"""After it the last RPC that was late has reached the store."""

Say = Callable[[str], None]


async def run(
    world: World,
    fault_name: str,
    seed: int,
    load_s: tuple[float, float, float],
    say: Say,
    site: str = SITE,
    *,
    until_landed: bool = True,
) -> History:
    """The history of one fault; `load_s`: before and in it, and when all is well again.

    `until_landed`: the load goes on until the RPCs that the fault made late have reached the store.
    """
    fault = FAULTS[fault_name]
    now = datetime.now(UTC)
    midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
    ahead_s = (midnight - now).total_seconds() - BEFORE_MIDNIGHT_S if fault.at_midnight else 0.0
    spoiled_before = len(world.spoiled)
    await asyncio.to_thread(world.start, tuple(ahead_s + clock_s for clock_s in fault.clocks_s))
    clients = Clients(header_of(seed, fault, world.kind, list(load_s)), world.urls, ahead_s=ahead_s, site=site)
    recovered = asyncio.Event()
    missing = wanted(clients.history.header)
    try:
        await clients.open()
        clients.start()
        say(f"{fault.name} on {world.kind}, seed {seed}: {fault.text}")
        await asyncio.sleep(load_s[0])
        clients.note("fault begins")
        say(f"  {clients.at_s():.0f} s: it begins, after {len(clients.history.operations)} operations")
        await world.suffer(fault, max(load_s[1], fault.at_least_s), lambda event, detail: clients.note(event, detail))
        clients.note("fault ends")
        ended_s = clients.at_s()
        say(f"  {ended_s:.0f} s: it is over, after {len(clients.history.operations)} operations")

        def watch(operation: Operation) -> None:
            if operation.status == 200 and operation.invoked_s >= ended_s:
                missing.discard((operation.op, operation.instance))
            if not missing and not clients.waits_since(ended_s):
                recovered.set()

        clients.on_answer = watch
        try:
            await asyncio.wait_for(recovered.wait(), RECOVERED_WITHIN_S)
            say(f"  {clients.at_s():.0f} s: all is well again")
        except TimeoutError:
            say(f"  not recovered after {RECOVERED_WITHIN_S:g} s: {sorted(missing)}")
        landed_s = ended_s + float(fault.rpcs.get("delay_s", 0)) + LANDED_S if until_landed else 0
        await asyncio.sleep(max(load_s[2], landed_s - clients.at_s()))
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
