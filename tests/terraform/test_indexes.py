"""The emulator answers every query, Firestore only those that an index serves: the queries against Terraform."""

from typing import Any

import pytest
from google.cloud.firestore_v1.async_aggregation import AsyncAggregationQuery

from function.stores.firestore import FirestoreStore
from tests.terraform.conftest import Terraform

pytestmark = pytest.mark.timeout(900)  # the first run builds the providers


async def test_the_fleet_query_has_its_composite_index_and_no_other_is_kept(
    applied: Terraform, emulator: str, project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An aggregation over several fields is served by one index of exactly the filtered and the summed ones."""
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    asked: list[Any] = []
    get = AsyncAggregationQuery.get

    def recorded(query: AsyncAggregationQuery, **options: Any) -> Any:
        asked.append(query._to_protobuf())
        return get(query, **options)

    monkeypatch.setattr(AsyncAggregationQuery, "get", recorded)
    store = FirestoreStore()
    await store.fleet(29_000_000)
    await store.close()

    assert len(asked) == 3
    needed = set()
    for query in asked:
        assert len(query.aggregations) <= 5
        filtered = [query.structured_query.where.field_filter.field.field_path]
        summed = [item.sum.field.field_path for item in query.aggregations if "sum" in item]
        assert filtered == ["minute"]
        if summed:
            needed.add((*filtered, *sorted(summed)))
    state = applied.state()
    kept = {
        tuple(field["field_path"] for field in values["fields"])
        for address, values in state.items()
        if address.startswith("google_firestore_index.")
    }
    assert kept == needed
    # Counting by the minute alone is served by the field's own index.
    assert (
        state['google_firestore_field.fields["sites.minute"]']["index_config"][0]["indexes"][0]["order"] == "ASCENDING"
    )
