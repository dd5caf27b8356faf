"""schemathesis over the OpenAPI document, on both stores: no 5xx but the contract's own, every answer as documented."""

import asyncio
import json
import threading
from collections import defaultdict
from datetime import timedelta

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from function.stores import open_store
from schemas.times import format_time, parse_time
from tests.conftest import ROOT
from tests.function.conftest import serving

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
HOUSE = {
    "inverters": {"0": {"inv_power_ac_w": 2225}},
    "energy_meters": {"0": {"grid_power_w": -542}},
    "batteries": {"0": {"bat_power_w": -749, "soc": 78.2}},
}
NEWEST_GENERATION = 2**31 - 1
"""No random settings revoke a token of it."""


@pytest.fixture
def running(store_address):
    """A function on a thread of its own, for schemathesis is not asynchronous; `home` has devices and history."""
    ready, done, box = threading.Event(), None, []

    async def serve():
        nonlocal done
        done = asyncio.Event()
        box.append(asyncio.get_running_loop())
        store = open_store(store_address)
        async with serving(store) as server:
            server.application.access._throttle = lambda known: None
            await server.post_live(HOUSE, device_info={"inverters": {"0": {"name": "Roof"}}})
            times = [format_time(server.now() - timedelta(hours=age)) for age in (0, 1, 30)]
            rows = [{"measured_at": time, "duration_s": 60, "device_values": HOUSE} for time in times]
            assert (await server.call("POST", "/api/v1/readings", server.token(), server.readings(*rows)))[0] == 200
            box.append(server)
            ready.set()
            await done.wait()
        await store.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(60)
    yield box[1]
    box[0].call_soon_threadsafe(done.set)
    thread.join(30)


def possible(document, now, key=None):
    """A document put right where no schema can say what is right: times are `now`, time zones are known."""
    if isinstance(document, dict):
        return {key: possible(value, now, key) for key, value in document.items()}
    if isinstance(document, list):
        return [possible(value, now) for value in document]
    if key == "timezone" and isinstance(document, str):
        return "Europe/Vienna"
    try:
        parse_time(document)
    except ValueError:
        return document
    return now


@pytest.mark.timeout(300)
def test_every_answer_is_as_documented(running):
    """Each case is tried as it comes, and once more for a site that is there, at this moment."""
    schema = schemathesis.openapi.from_dict(json.loads((ROOT / "schemas/openapi.json").read_text(encoding="utf-8")))
    everywhere = running.token("*", "admin", expires=timedelta(days=1))
    push, read, admin = (
        running.token(scope=scope, generation=NEWEST_GENERATION) for scope in ("push", "read", "admin")
    )
    answered = defaultdict(set)

    def send(case, token):
        return case.call(base_url=running.url, headers={"X-NRGkick-Token": token} if token else {})

    def bring_into_being(site):
        made = schema["/api/v1/sites/{site}"]["PUT"].Case(path_parameters={"site": site}, body={})
        assert send(made, everywhere).status_code == 200

    def bring_home(case):
        if case.path_parameters:
            case.path_parameters["site"] = "doomed" if case.method == "DELETE" else "home"
        if case.method == "DELETE":
            bring_into_being("doomed")
        case.body = possible(case.body, format_time(running.now()))
        return case

    def attack(operation):
        def try_with(case, *tokens):
            for token in tokens:
                answer = send(case, token)
                answered[operation.label].add(answer.status_code)
                case.validate_response(answer, checks=CHECKS, excluded_checks=[not_a_server_error])

        enough = 40 if operation.query else 15  # each format and resolution is to be met

        @settings(max_examples=enough, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) | operation.as_strategy())
        def try_it(case):
            try_with(case, push, everywhere)
            try_with(bring_home(case), push, read, admin, everywhere, None)

        try_it()

    for result in schema.get_all_operations():
        attack(result.ok())
    never = [label for label, statuses in answered.items() if not any(200 <= status < 300 for status in statuses)]
    assert not never, f"no case came as far as the handler's answer: {never} of {dict(answered)}"
    assert set.union(*answered.values()) >= {200, 401, 403, 404, 422}
