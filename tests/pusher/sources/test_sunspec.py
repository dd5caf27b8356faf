"""SunSpec discovery on a real Modbus server: the right model, its scale, and nothing where the device has nothing."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pusher.sources import Shared, SourceError
from pusher.sources.modbus import Options, open_source
from tests.pusher.sources.servers import SunSpecMap, modbus_device


@pytest.fixture
async def shared():
    shared = Shared()
    yield shared
    await shared.close()


def opened(device, category, shared, **options):
    given_options = {"host": device.host, "port": device.port, "sunspec": True} | options
    return open_source(Options.model_validate(given_options), category, shared)


async def values(device, category, shared, **options):
    return (await opened(device, category, shared, **options).read()).values


@pytest.mark.parametrize("base", [40000, 0, 50000])
async def test_the_models_are_found_at_each_base(shared, base):
    registers = SunSpecMap(1, 103, base=base).inverter(103, 2225)
    async with modbus_device(registers) as device:
        assert await values(device, "inverters", shared) == {"inv_power_ac_w": 2225, "pv_energy_total_wh": 346_890}


@pytest.mark.parametrize("number", [101, 102, 103, 111, 112, 113])
async def test_every_inverter_model(shared, number):
    async with modbus_device(SunSpecMap(1, number, 120).inverter(number, 2225.0)) as device:
        assert await values(device, "inverters", shared) == {"inv_power_ac_w": 2225, "pv_energy_total_wh": 346_890}


@pytest.mark.parametrize("number", [201, 202, 203, 204, 211, 212, 213, 214])
async def test_every_meter_model_and_its_sign_may_be_turned(shared, number):
    async with modbus_device(SunSpecMap(1, number).meter(number, 542.0)) as device:
        assert await values(device, "energy_meters", shared) == {"grid_power_w": 542}
        turned = {"grid_power_w": {"scale": -1}}
        assert await values(device, "energy_meters", shared, values=turned) == {"grid_power_w": -542}


async def test_both_battery_models(shared):
    async with modbus_device(SunSpecMap(1, 802).battery(-749, 78.2)) as device:
        assert await values(device, "batteries", shared) == {"bat_power_w": -749, "soc": 78.2}
    async with modbus_device(SunSpecMap(1, 103, 160, 124).storage(78.2).mppt(900, 800, 749, 0)) as device:
        with pytest.raises(SourceError, match="model 124 gives the state of charge but no power; name storage_modules"):
            await values(device, "batteries", shared)
        modules = {"charge": 3, "discharge": 4}
        charging = await values(device, "batteries", shared, storage_modules=modules)
        assert charging == {"bat_power_w": -749, "soc": 78.2}


async def test_the_power_of_model_124_may_come_from_a_register(shared):
    registers = SunSpecMap(124).storage(50)
    registers[41000] = 300
    async with modbus_device(registers) as device:
        own = {"bat_power_w": {"register": 41000, "type": "int16", "scale": -1}}
        assert await values(device, "batteries", shared, values=own) == {"bat_power_w": -300, "soc": 50}


@pytest.mark.parametrize(("factor", "power_w"), [(-2, 22.25), (0, 2225), (1, 22250), (2, 222500)])
async def test_scale_factors_are_powers_of_ten(shared, factor, power_w):
    async with modbus_device(SunSpecMap(103).inverter(103, power_w, factor=factor)) as device:
        assert (await values(device, "inverters", shared))["inv_power_ac_w"] == power_w


async def test_the_scale_factor_is_read_anew_each_time(shared):
    registers = SunSpecMap(203).meter(203, 30_000, factor=0)
    async with modbus_device(registers) as device:
        source = opened(device, "energy_meters", shared)
        assert (await source.read()).values == {"grid_power_w": 30_000}
        registers.meter(203, 90_000, factor=1)
        assert (await source.read()).values == {"grid_power_w": 90_000}


async def test_a_sleeping_inverter_gives_nothing_a_broken_one_an_error(shared):
    registers = SunSpecMap(103).inverter(103, 0, energy_wh=0, state=2)
    registers.write(registers.model[103] + 14, -32768)  # not implemented
    async with modbus_device(registers) as device:
        assert await values(device, "inverters", shared) == {"inv_power_ac_w": 0}
        registers.write(registers.model[103] + 38, 7)  # fault
        with pytest.raises(SourceError, match="inv_power_ac_w: the device does not give it now"):
            await values(device, "inverters", shared)


async def test_one_of_several_models_is_chosen_and_a_missing_one_is_told_with_what_is_there(shared):
    registers = SunSpecMap(1, 203).meter(203, 100)
    second = registers.add(203)
    registers.write(second + 18, 200).write(second + 22, 0)
    async with modbus_device(registers) as device:
        assert await values(device, "energy_meters", shared) == {"grid_power_w": 100}
        assert await values(device, "energy_meters", shared, nth=2) == {"grid_power_w": 200}
        with pytest.raises(SourceError, match=r"no SunSpec model for energy_meters 3 times .*; it has: 1, 203, 203"):
            await values(device, "energy_meters", shared, nth=3)
        with pytest.raises(SourceError, match=r"no SunSpec model for inverters \(101, 102"):
            await values(device, "inverters", shared)


async def test_a_constant_and_an_adjustment_stand_beside_what_is_found(shared):
    async with modbus_device(SunSpecMap(103).inverter(103, 1000)) as device:
        own = {"battery_connected": True, "pv_energy_total_wh": {"scale": 1000}}
        assert await values(device, "inverters", shared, values=own) == {
            "inv_power_ac_w": 1000,
            "pv_energy_total_wh": 346_890_000,
            "battery_connected": True,
        }


async def test_devices_in_one_unit_share_the_search(shared):
    registers = SunSpecMap(1, 103, 120, 203).inverter(103, 2225).meter(203, -542)
    async with modbus_device(registers) as device:
        inverter, meter = opened(device, "inverters", shared), opened(device, "energy_meters", shared)
        both = await asyncio.gather(inverter.read(), meter.read())
        assert [reading.values.get("grid_power_w") for reading in both] == [None, -542]
        assert len(device.requests) == 1 + 5 + 2  # the mark, four models and the end, one block each
        await asyncio.gather(inverter.read(), meter.read())
        assert len(device.requests) == 8 + 2


async def test_a_search_that_is_cut_short_goes_on_at_the_next_read(shared):
    async with modbus_device(SunSpecMap(1, 120, 124, 103).inverter(103, 5)) as device:
        source = opened(device, "inverters", shared)
        link = next(iter(shared.connections.values()))
        real, allowed = link.read, [3]

        async def tired(unit, span, within_s):
            allowed[0] -= 1
            if allowed[0] < 0:
                allowed[0] = 3
                raise SourceError("cut short")
            return await real(unit, span, within_s)

        link.read = tired
        attempts = 0
        while True:
            attempts += 1
            try:
                assert (await source.read()).values["inv_power_ac_w"] == 5
                break
            except SourceError as error:
                assert "cut short" in str(error)
        assert attempts == 3
        assert len(device.requests) == 7  # none was asked twice


async def test_a_device_whose_models_have_moved_is_searched_anew(shared):
    registers = SunSpecMap(1, 103).inverter(103, 5)
    async with modbus_device(registers) as device:
        source = opened(device, "inverters", shared)
        await source.read()
        registers.clear()
        registers |= SunSpecMap(1, 120, 103).inverter(103, 6)
        with pytest.raises(SourceError, match="model 103 has moved"):
            await source.read()
        assert (await source.read()).values["inv_power_ac_w"] == 6


async def test_a_device_without_sunspec_says_so(shared):
    async with modbus_device({1: 1}) as device:
        for _ in range(2):
            with pytest.raises(SourceError, match=r'is no SunSpec device: no "SunS" at 40000, 0, 50000'):
                await values(device, "inverters", shared)


def test_sunspec_has_no_smart_loads_and_modules_start_at_one():
    options = Options.model_validate({"host": "h", "sunspec": True})
    with pytest.raises(ValueError, match="SunSpec has no model for smart_loads"):
        open_source(options, "smart_loads", Shared())
    with pytest.raises(ValidationError):
        Options.model_validate({"host": "h", "sunspec": True, "storage_modules": {"charge": 0, "discharge": 1}})


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(), number=st.sampled_from([101, 113, 124, 203, 213, 802, 160]), dirt=st.integers(0, 40))
def test_no_registers_whatever_raise_anything_else(seed, number, dirt):
    chance = random.Random(seed)
    registers = SunSpecMap(1, number, 103)
    for address in chance.sample(sorted(registers), k=min(dirt * 4, len(registers))):
        registers[address] = chance.choice([0, 1, 0xFFFF, 0x8000, chance.randrange(1 << 16)])

    async def once():
        async with modbus_device(registers) as device:
            for category in ("inverters", "energy_meters", "batteries"):
                shared = Shared()
                try:
                    await values(device, category, shared, storage_modules={"charge": 3, "discharge": 4})
                except SourceError:
                    pass
                finally:
                    await shared.close()

    asyncio.run(once())
