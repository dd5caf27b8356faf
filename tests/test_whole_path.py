"""From a device to the wallbox with no step mocked: SunSpec and plain Modbus, HTTP and MQTT devices, a real pusher
process, a real function process on the Firestore emulator.
"""

import pytest

from tests.pusher.parts import Function, pusher_of, until
from tests.pusher.sources.servers import SunSpecMap, http_device, modbus_device, mosquitto

TICK = "every: 300ms"


class FirestoreFunction(Function):
    """The real function, on the emulator."""

    def __init__(self, folder):
        super().__init__(folder)
        self.store = "firestore"


@pytest.fixture
async def function(tmp_path, emulator, project, monkeypatch):
    monkeypatch.setenv("FIRESTORE_EMULATOR_HOST", emulator)
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", project)
    monkeypatch.setenv("NRGKICK_SIGNING_KEY", "k" * 40)
    running = FirestoreFunction(tmp_path)
    await running.start()
    yield running
    await running.stop()


async def test_what_changes_at_a_device_changes_in_values_json(function, tmp_path):
    sunspec = SunSpecMap(103)
    sunspec.inverter(103, 2225)
    async with (
        modbus_device(sunspec) as inverter,
        modbus_device({100: 0xFDE2}) as meter,
        http_device({"/battery": {"power": 0.749, "soc": 78.2}}) as battery,
        mosquitto(tmp_path) as broker,
    ):
        devices = f"""
          - inverter: 0
            {TICK}
            modbus: {{host: 127.0.0.1, port: {inverter.port}, sunspec: true}}
          - energy_meter: 0
            {TICK}
            info: {{location: 1}}
            modbus: {{host: 127.0.0.1, port: {meter.port}, values: {{grid_power_w: {{register: 100, type: int16}}}}}}
          - battery: 0
            {TICK}
            http:
              url: {battery.url}/battery
              values: {{bat_power_w: {{path: power, scale: -1000}}, soc: soc}}
          - smart_load: 0
            {TICK}
            mqtt: {{host: 127.0.0.1, port: {broker.port}, values: {{sl_power_w: {{topic: boiler, path: w}}}}}}
        """
        read = await function.token("read")
        async with pusher_of(tmp_path, function.url, await function.token(), devices):

            async def shown():
                status, document = await function.get("/api/v1/values.json", read)
                return document["device_values"] if status == 200 else {}

            async def with_boiler():
                await broker.publish("boiler", '{"w": 1241}')
                return "smart_loads" in await shown()

            await until(with_boiler, "every device arrives")
            values = await shown()
            assert values["inverters"]["0"]["inv_power_ac_w"] == 2225
            assert values["energy_meters"] == {"0": {"grid_power_w": -542}}
            assert values["batteries"] == {"0": {"bat_power_w": -749, "soc": 78.2}}
            assert values["smart_loads"] == {"0": {"sl_power_w": 1241}}
            assert values["load_power_w"] == 2225 - 542 - 749
            meter.holding()[100] = 1000

            async def imports():
                return (await shown()).get("energy_meters") == {"0": {"grid_power_w": 1000}}

            await until(imports, "the register's change arrives")
            meter.refuse[1] = 4  # device failure, as the Modbus standard numbers it

            async def refused():
                status, problem = await function.get("/api/v1/values.json", read)
                return status == 503 and "energy meter 0" in problem["detail"]

            await until(refused, "a dead grid meter is not charged from")
