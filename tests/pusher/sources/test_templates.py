"""Every template reads its product as documented, with the document's signs, and says clearly what it misses."""

import pickle

import pytest

from pusher.sources import source_module
from pusher.templates import BUILT_IN, ROLE_OF, TemplateError, expand, load_template, template_names
from tests.pusher.sources.replay import CATEGORY_OF, RECORDED, play, recorded

NAMES = template_names()
CASES = [pytest.param(name, case, id=f"{name}: {case['says']}") for name in NAMES for case in recorded(name)]


@pytest.mark.parametrize(("name", "case"), CASES)
async def test_a_template_reads_what_its_recorded_device_says(name, case, tmp_path):
    assert await play(name, case, tmp_path) == case["expect"]


def test_there_are_at_least_twenty_and_each_has_its_recording():
    assert len(NAMES) >= 20
    assert {path.stem for path in RECORDED.glob("*.yaml")} == set(NAMES) == {p.stem for p in BUILT_IN.glob("*.yaml")}


@pytest.mark.parametrize("name", NAMES)
def test_the_recordings_show_every_role_and_both_signs_of_what_has_two(name):
    expected = {}
    for case in recorded(name):
        for role, values in case["expect"].items():
            expected.setdefault(role, []).append(values)
    assert expected.keys() == load_template(name).delivers.keys()
    for role, key in (("energy_meter", "grid_power_w"), ("battery", "bat_power_w")):
        signs = {values[key] > 0 for values in expected.get(role, [])}
        assert signs in (set(), {True, False}), f"{role} of {name} is shown with one sign only"


@pytest.mark.parametrize("name", NAMES)
def test_a_template_names_its_sources_and_claims_no_more_than_was_done(name):
    template = load_template(name)
    assert template.checked == "documentation"
    assert all(len(source) > 20 for source in template.sources)
    assert template.maker
    assert template.product


GIVEN = {"text": "a.example", "secret": "s", "integer": 1, "number": 1, "boolean": True}


@pytest.mark.parametrize("name", NAMES)
def test_every_role_makes_valid_options_with_nothing_but_what_is_needed(name):
    template = load_template(name)
    needed = {
        key: GIVEN[parameter.type]
        for key, parameter in template.parameters.items()
        if parameter.default is None and not parameter.optional
    }
    if name == "eastron-sdm630":
        needed["serial"] = "/dev/ttyUSB0"
    for role in template.delivers:
        kind, options = expand(name, needed, CATEGORY_OF[role], None)
        read = source_module(kind).Options.model_validate(options)
        assert pickle.loads(pickle.dumps(read)) == read  # it is judged in another process
        assert "${" not in str(options)
        assert "None" not in str(options)


def found_in(*arguments):
    with pytest.raises(TemplateError) as caught:
        expand(*arguments)
    return caught.value.found


def test_an_unknown_template_is_told_with_the_nearest(tmp_path):
    assert found_in("fronius-simo", {}, "inverters", tmp_path) == [
        (("template",), 'there is no template "fronius-simo"; did you mean "fronius-symo"?')
    ]
    assert "known: e3dc, " in found_in(42, {}, "inverters", tmp_path)[0][1]


def test_every_mistake_in_the_parameters_is_told_at_its_place():
    given = {"hots": "x", "word_order": "middle", "unit": "seventy-one"}
    assert found_in("kostal-plenticore", given, "inverters", None) == [
        (("hots",), 'template "kostal-plenticore" has no parameter "hots"; did you mean "host"?'),
        (("template",), 'template "kostal-plenticore" needs "host": address of the inverter'),
        (("unit",), '"unit" is a integer: the inverter\'s Modbus number'),
        (("word_order",), '"word_order" is little or big: the byte order set in the web interface'),
    ]


def test_a_category_that_the_product_does_not_have_is_told():
    assert found_in("homewizard-p1", {"host": "h"}, "batteries", None) == [
        (("template",), '"homewizard-p1" delivers no battery; it delivers: energy_meter')
    ]


OWN = """\
product: Meter in the barn
maker: me
checked: device
sources: [my own screwdriver]
parameters:
  host: {help: its address}
  port: {type: integer, default: 80, help: its port}
  password: {type: secret, optional: true, help: its password}
delivers:
  energy_meter:
    http:
      url: http://${host}:${port}/
      basic: {if_given: password, user: me, password: "${password}"}
      values: {grid_power_w: {path: w, scale: -1}}
"""


def test_an_owners_template_lies_beside_the_configuration_and_comes_first(tmp_path):
    (tmp_path / "barn.yaml").write_text(OWN)
    (tmp_path / "pusher.yaml").write_text("cloud: {}\n")
    assert "barn" in template_names(tmp_path)
    assert "pusher" not in template_names(tmp_path)
    kind, options = expand("barn", {"host": "h", "port": 8080}, "energy_meters", tmp_path)
    assert (kind, options) == (
        "http",
        {"url": "http://h:8080/", "values": {"grid_power_w": {"path": "w", "scale": -1}}},
    )
    _, options = expand("barn", {"host": "h", "password": "pw"}, "energy_meters", tmp_path)
    assert options["basic"] == {"user": "me", "password": "pw"}
    (tmp_path / "shelly-3em.yaml").write_text(OWN)
    assert load_template("shelly-3em", tmp_path).maker == "me"


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        ("delivers:", "delivered:", 'barn.yaml:9: delivered: unknown key "delivered"; did you mean "delivers"?'),
        ("http:\n", "htpp:\n", "barn.yaml:10: energy_meter is read by exactly one of simulated, http"),
        ("${port}", "${prot}", 'barn.yaml:10: energy_meter uses "${prot}", which is not among the parameters'),
        ("default: 80", "default: http", 'barn.yaml:7: the default of "port" is no integer'),
        ("sources: [my own screwdriver]", "sources: [a", "barn.yaml:"),
    ],
)
def test_a_mistake_in_a_template_is_told_with_file_and_line(tmp_path, wrong, right, message):
    (tmp_path / "barn.yaml").write_text(OWN.replace(wrong, right, 1))
    assert any(message in text for _, text in found_in("barn", {"host": "h"}, "energy_meters", tmp_path))


def test_a_changed_template_is_read_anew(tmp_path):
    path = tmp_path / "barn.yaml"
    path.write_text(OWN)
    assert load_template("barn", tmp_path).maker == "me"
    path.write_text(OWN.replace("maker: me", "maker: you"))
    assert load_template("barn", tmp_path).maker == "you"


def test_roles_are_those_of_the_configuration():
    assert sorted(ROLE_OF.values()) == sorted(["inverter", "energy_meter", "battery", "smart_load", "load"])
