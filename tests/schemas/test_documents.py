"""The manufacturer's document: its own examples come back out as they went in; times and contract hold."""

import json
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.contract import OPERATIONS, documents
from schemas.document import DeviceInfo, DeviceValues, flat, nested
from schemas.times import format_time, parse_time

VALUES = """{"inverters":{"0":{"inv_power_ac_w":2225,"pv_energy_day_wh":8750,"pv_energy_total_wh":346890,\
"battery_connected":true}},"energy_meters":{"0":{"grid_power_w":-542}},"batteries":{"0":{"bat_power_w":-749,\
"soc":78.2,"mode":0}},"smart_loads":{"0":{"sl_power_w":1241,"temp":46.8,"mode":1}},"load_power_w":1683}"""
INFO = """{"inverters":{"0":{"name":"Testinverter","model":"Testmodel","serial":"0123456789","max_dc_w":5500,\
"max_ac_w":5000}},"energy_meters":{"0":{"name":"Testmeter","model":"Testmodel","serial":"0123456789","location":1}},\
"batteries":{"0":{"name":"Testbatterie","model":"Testmodel","serial":"0123456789","capacity_wh":4700}},\
"smart_loads":{"0":{"name":"Testsmartload","model":"Testmodel","serial":"0123456789"}}}"""


@pytest.mark.parametrize(("model", "text"), [(DeviceValues, VALUES), (DeviceInfo, INFO)])
def test_the_documents_examples_come_back_out_byte_for_byte(model, text):
    parsed = model.model_validate_json(text)
    assert json.dumps(nested(flat(parsed)), separators=(",", ":"), sort_keys=True) == json.dumps(
        json.loads(text), separators=(",", ":"), sort_keys=True
    )


@pytest.mark.parametrize("name", documents())
def test_what_is_written_is_what_the_models_say(name):
    written = Path("schemas", name).read_text(encoding="utf-8")
    assert json.loads(written) == json.loads(json.dumps(documents()[name])), "run `make schemas` and commit"


def test_the_json_schemas_judge_the_examples_as_the_models_do():
    schema = documents()["device_values.schema.json"]
    jsonschema.validate({"device_values": json.loads(VALUES)}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"device_values": {"inverters": {"5": {"inv_power_ac_w": 1}}}}, schema)


def test_every_route_is_in_the_contract_and_the_other_way_round():
    from function.main import ROUTES

    page = {"/", "/sign-in", "/sign-out"}
    routes = {(path, method.lower()) for path, methods in ROUTES.items() if path not in page for method in methods}
    assert routes == {(path, method) for path, methods in OPERATIONS.items() for method in methods}


def test_a_fraction_is_cut_and_never_makes_a_time_newer():
    assert parse_time("2026-11-22T12:00:00.9999999Z").microsecond == 999999
    assert format_time(parse_time("2026-11-22T13:00:00.5+01:00")) == "2026-11-22T12:00:00.500Z"


@given(st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_every_time_survives_its_text(time):
    assert parse_time(format_time(time)) == time


@given(st.text(max_size=40))
def test_no_text_is_mistaken_for_a_time(text):
    try:
        parsed = parse_time(text)
    except ValueError as error:
        assert str(error)
    else:
        assert parsed.tzinfo is not None
