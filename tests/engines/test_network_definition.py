import pytest
import yaml
from monai.bundle import ConfigParser

from overtile.engines import network_definition

CONFIG = {
    "channels": [4, 8],
    "window": 8,
    "network_def": {"_target_": "torch.nn.Conv2d", "in_channels": 1, "out_channels": "@window", "kernel_size": 3},
    "geometry": {"_target_": "overtile.geometry.Geometry", "levels": "$len(@channels)", "padding": "same"},
    "definition": {"_target_": "overtile.engines.network_definition"},
}


def definition(**changes):
    return ConfigParser({**CONFIG, **changes}).get_parsed_content("definition")


def test_references_and_expressions_have_become_values():
    defined = definition()
    assert defined["network_def"] == {**CONFIG["network_def"], "out_channels": 8}
    assert defined["geometry"] == {**CONFIG["geometry"], "levels": 2}
    assert yaml.safe_load(yaml.safe_dump(defined)) == defined


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("$(1, (2, @window))", [1, [2, 8]]),
        ("@channels", [4, 8]),
        ([1, {"a": "@window", "_desc_": "why"}], [1, {"a": 8}]),
        ("$None", None),
        ("$range(2)", [0, 1]),
        ("$[@network_def]", "$[@network_def]"),
    ],
    ids=str,
)
def test_what_yaml_cannot_say_stays_an_expression(given, kept):
    assert definition(geometry={"value": given})["geometry"] == {"value": kept}


def test_the_u_net_needs_no_definition_since_options_define_it():
    assert definition(network_def={"_target_": "overtile.networks.UNet", "levels": 1}) == {}


def test_where_no_config_is_read_there_is_none():
    assert network_definition() == {}
    assert definition(network_def=None) == {}
