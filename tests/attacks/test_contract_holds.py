"""schemathesis over the OpenAPI document, on both stores: no 5xx but the contract's own, every answer as documented."""

import asyncio
import json
import threading

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
from tests.conftest import ROOT
from tests.function.conftest import serving

EXPECTED_5XX = {500, 503}
CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture
def running(store_address):
    """A function on a thread of its own, for schemathesis is not asynchronous."""
    ready, done, box = threading.Event(), None, []

    async def serve():
        nonlocal done
        done = asyncio.Event()
        box.append(asyncio.get_running_loop())
        store = open_store(store_address)
        async with serving(store) as server:
            server.application.access._monotonic_s = lambda: 0.0
            server.application.access._throttle = lambda known: None
            await server.post_live({"load_power_w": 1})
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


@pytest.mark.timeout(300)
def test_every_answer_is_as_documented(running):
    schema = schemathesis.openapi.from_dict(json.loads((ROOT / "schemas/openapi.json").read_text(encoding="utf-8")))
    tokens = {scope: running.token(scope=scope) for scope in ("push", "read", "admin")}
    seen = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        strategy = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE) | operation.as_strategy()

        @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=strategy)
        def attack(case):
            for token in (*tokens.values(), None):
                headers = {"X-NRGkick-Token": token} if token else {}
                if case.method == "DELETE" and token == tokens["admin"]:
                    continue
                answer = case.call(base_url=running.url, headers=headers)
                seen.add((case.path, answer.status_code))
                case.validate_response(answer, checks=CHECKS, excluded_checks=[not_a_server_error])
                assert answer.status_code < 500 or answer.status_code in EXPECTED_5XX

        attack()
    assert {status for _, status in seen} >= {200, 401, 403, 422}
