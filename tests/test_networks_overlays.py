"""Every overlay of configs/networks: it trains, evaluates and infers, its size, its reach, and its export."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from monai.bundle import ConfigParser
from torch.nn.modules.instancenorm import _InstanceNorm

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
OVERLAYS = sorted(file.stem for file in (CONFIGS / "networks").glob("*.yaml"))

SMALL = yaml.safe_load(Path(__file__).with_name("small_networks.yaml").read_text(encoding="utf-8"))
ONLY_2D = {"unet_2015", "unet_release", "transunet", "swin_unet"}
CASES = [
    pytest.param(name, dims, id=f"{name} {dims}D")
    for name in SMALL
    for dims in (2, 3)
    if not (dims == 3 and name in ONLY_2D) and not (dims == 2 and name == "unet3d_2016")
]
FIXED_SIZE = {"unetr", "transunet", "swin_unet"}


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    """A data set folder: one training and one validation volume of two bright cells in 12x18x20 voxels."""
    root = tmp_path_factory.mktemp("volumes")
    label = np.zeros((12, 18, 20), np.uint8)
    label[2:8, 3:10, 2:9] = 1
    label[4:10, 8:16, 11:18] = 2
    image = np.random.default_rng(0).normal(20, 5, label.shape) + 60 * (label > 0)
    for section in ("training", "validation"):
        for folder, array in {"images": image.clip(0, 255).astype(np.uint8), "labels": label}.items():
            file = root / section / folder / "volume.tif"
            file.parent.mkdir(parents=True)
            tifffile.imwrite(file, array, metadata={"axes": "ZYX"})
    return root


def needs(name):
    """Skips where a package that a network needs is not installed."""
    if name == "unetr":
        pytest.importorskip("einops", reason="MONAI's UNETR needs pip install einops")


def layers(name, dims):
    return (*(["3d.yaml"] if dims == 3 else []), f"networks/{name}.yaml")


def parsed(name, dims=2, below="inference.json", **settings):
    """The configuration with an overlay, as MONAI merges them."""
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / file) for file in (below, *layers(name, dims))])
    parser.update(settings)
    return parser


def test_every_overlay_is_tested():
    assert set(SMALL) == set(OVERLAYS)


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_an_overlay_trains_evaluates_and_infers(workflow, tmp_path, cells, volumes, name, dims):
    needs(name)
    data = cells if dims == 2 else volumes
    options = {"max_epochs": 1, "dataset_dir": str(data), **SMALL[name]}
    run = workflow("train.json", *layers(name, dims), **options)
    assert run.check_properties() == []
    run.run()
    trainer = run.parser.get_parsed_content("train::trainer")
    assert trainer.state.iteration == 2
    assert np.isfinite(trainer.state.output[0]["loss"])

    kept = str(tmp_path / "models" / "model.yaml")  # what evaluation and inference need to know of the network
    workflow("train.json", "evaluate.json", kept, dataset_dir=str(data)).run()
    assert json.loads((tmp_path / "output" / "scores.json").read_text())["scores"].keys() == {"val_f1"}

    shape = (43, 71) if dims == 2 else (9, 19, 33)
    (tmp_path / "odd").mkdir()
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    tifffile.imwrite(tmp_path / "odd" / "image.tif", image, metadata={"axes": "ZYX"[-dims:]})
    workflow("inference.json", kept, workflow_type="infer", dataset_dir=str(tmp_path / "odd")).run()
    assert tifffile.imread(tmp_path / "output" / "image_seg.tif").shape == shape


@pytest.mark.parametrize("option", ["output_size", "tile"])
@pytest.mark.parametrize("name", sorted(FIXED_SIZE))
def test_a_network_of_one_size_gets_tiles_of_that_size_of_any_image_in_training_and_inference(name, option):
    needs(name)
    settings = {**SMALL[name], option: 96, "window": 6, "memory_limit": 1e3, "progress": False}
    for below, inferer in (("train.json", "validate#inferer"), ("inference.json", "inferer")):
        parser = parsed(name, below=below, **settings)
        assert below != "train.json" or parser.get_parsed_content("train#random_transforms#0#spatial_size") == 96
        network, inferer = (parser.get_parsed_content(key) for key in ("network_def", inferer))
        sizes = []
        network.register_forward_pre_hook(lambda _, inputs, sizes=sizes: sizes.append(tuple(inputs[0].shape[2:])))
        for shape in ((7, 31), (96, 96), (33, 100)):
            assert inferer(torch.rand(1, 1, *shape), network.eval()).shape == (1, 2, *shape)
        assert set(sizes) == {(96, 96)}


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_over_an_experiment_it_has_its_classes_and_answers_for_its_training_window(name, dims):
    needs(name)
    experiment = "hippocampus" if dims == 3 else "isbi2012"
    files = [f"experiments/{experiment}.yaml", f"experiments/{experiment}_cpu.yaml", f"networks/{name}.yaml"]
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / file) for file in ("train.json", *["3d.yaml"] * (dims == 3), *files)])
    with torch.device("meta"):
        network, geometry = (parser.get_parsed_content(key) for key in ("network_def", "geometry"))
        window = parser.get_parsed_content("train#random_transforms#0#spatial_size")
        logits = network.eval()(torch.empty(1, 1, *[window + 2 * geometry.loss] * dims))
    assert logits.shape == (1, 3 if dims == 3 else 2, *[window] * dims)


SYNAPSE = {"in_channels": 3, "out_channels": 9, "output_size": 224}
PUBLISHED = [
    pytest.param("multiresunet", 2, {"in_channels": 3, "out_channels": 1}, 7_238_228, id="MultiResUNet"),
    pytest.param("multiresunet", 3, {"in_channels": 4, "out_channels": 1}, 18_633_167, id="MultiResUNet 3D"),
    pytest.param("fcn", 2, {"in_channels": 3, "out_channels": 21}, 134_489_759, id="FCN-8s"),
    pytest.param("transunet", 2, SYNAPSE, 105_277_081, id="TransUNet"),
    pytest.param("swin_unet", 2, {**SYNAPSE, "window": 7}, 27_168_900, id="Swin-UNet"),
    pytest.param("unetr", 3, {"output_size": 96}, 92_802_274, id="UNETR"),
]
# of one channel and two classes
SIZES = {
    ("unet_2015", 2): 31_030_658,
    ("unet_release", 2): 31_100_354,
    ("unet3d_2016", 3): 19_072_834,
    ("vnet", 2): 9_358_730,
    ("vnet", 3): 45_597_898,
    ("residual_unet", 2): 1_625_161,
    ("residual_unet", 3): 4_806_481,
    ("attention_unet", 2): 31_739_250,
    ("attention_unet", 3): 94_482_930,
    ("unetr", 2): 87_333_826,
    ("unetr", 3): 92_685_538,
    ("dynunet", 2): 20_611_170,
    ("dynunet", 3): 31_189_410,
    ("multiresunet", 2): 7_238_034,
    ("multiresunet", 3): 18_632_418,
    ("transunet", 2): 105_322_146,
    ("swin_unet", 2): 27_175_620,
    ("fcn", 2): 134_270_278,
    ("fcn", 3): 780_267_334,
    ("patch_classifier", 2): 219_290,
    ("patch_classifier", 3): 845_978,
}


def parameters(parser):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in parser.get_parsed_content("network_def").parameters())


@pytest.mark.parametrize(("name", "dims", "settings", "number"), PUBLISHED)
def test_the_number_of_parameters_is_that_of_the_published_configuration(name, dims, settings, number):
    needs(name)
    assert parameters(parsed(name, dims, **settings)) == number


def documented(name):
    """A network's row of the table in docs/networks.md, cell by cell."""
    text = (ROOT / "docs" / "networks.md").read_text(encoding="utf-8")
    return re.search(rf"^\| `{name}` .*$", text, re.M)[0].split(" | ")


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_the_number_of_parameters_is_the_one_in_the_documentation(name, dims):
    needs(name)
    number = parameters(parsed(name, dims))
    assert number == SIZES[name, dims]
    assert f"{number:,}" in documented(name)[4].split("; ")


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_documentation_says_which_networks_take_statistics_of_the_tile(name):
    needs(name)
    of_the_tile = (_InstanceNorm, torch.nn.GroupNorm, torch.nn.LayerNorm)
    with torch.device("meta"):
        network = parsed(name).get_parsed_content("network_def")
    found = any(isinstance(module, of_the_tile) for module in network.modules())
    assert documented(name)[6].split(":")[0] == ("no" if found else "yes")


def test_batch_norm_makes_the_residual_u_net_one_for_all_tilings():
    parser = parsed("residual_unet", norm="batch")
    network = parser.get_parsed_content("network_def")
    assert not any(isinstance(module, _InstanceNorm) for module in network.modules())
    assert parameters(parser) == 1_627_597


MARGINS = {"multiresunet": 160, "fcn": 256, "patch_classifier": 47, "unet_2015": 92, "swin_unet": 32, "transunet": 32}


@pytest.mark.parametrize(("name", "margin"), MARGINS.items())
def test_the_margin_is_the_one_of_the_network(name, margin):
    parser = parsed(name)
    with torch.device("meta"):
        geometry, network = (parser.get_parsed_content(key) for key in ("geometry", "network_def"))
    assert geometry == network.geometry
    assert geometry.margin == margin


@pytest.mark.parametrize(("dims", "size", "margin"), [(2, 256, 32), (3, 64, 8), (3, 96, 8)])
def test_the_tiles_of_unetr_overlap_and_their_patches_lie_on_one_grid(dims, size, margin):
    geometry = parsed("unetr", dims, **({"output_size": 96} if size == 96 else {})).get_parsed_content("geometry")
    assert (geometry.tile, geometry.margin, geometry.stride(1) % 16) == (size, margin, 0)


NARROW = [
    pytest.param("vnet", {}, 205, id="vnet"),
    pytest.param("residual_unet", {"network_def#channels": [2] * 5, "norm": "batch"}, 107, id="residual_unet"),
    pytest.param("attention_unet", {"network_def#channels": [2] * 5}, 77, id="attention_unet"),
    pytest.param("dynunet", {"network_def#filters": [2] * 6, "network_def#norm_name": "batch"}, 188, id="dynunet"),
]


@pytest.mark.parametrize(("name", "settings", "reach"), NARROW)
def test_the_margin_of_monais_networks_is_the_next_legal_one_beyond_their_reach(name, settings, reach):
    """What is not a number stays none on every way through the network, so it shows how far a voxel is seen."""
    parser = parsed(name, **settings)
    network, geometry = (parser.get_parsed_content(key) for key in ("network_def", "geometry"))
    for module in network.eval().modules():
        if isinstance(module, torch.nn.InstanceNorm2d):  # they see all of the tile
            module.forward = lambda x: x
    step, middle = geometry.step, geometry.margin + geometry.step
    images = torch.zeros(step, 1, 2 * middle + step - middle % step * 2, step)
    for place in range(step):  # on the pooling grid
        images[place, 0, middle + place, 0] = torch.nan
    with torch.no_grad():
        seen = network(images)[:, 0].isnan().any(dim=-1)
    far = [(row.nonzero() - middle - place).abs().max().item() for place, row in enumerate(seen)]
    assert max(far) == reach
    assert geometry.margin == -(-reach // step) * step


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_onnx_of_it_answers_the_same(name, dims, in_onnx_runtime):
    needs(name)
    torch.manual_seed(0)
    parser = parsed(name, dims, **SMALL[name])
    network, geometry = (parser.get_parsed_content(key) for key in ("network_def", "geometry"))
    network.eval()
    first = geometry.window_size(SMALL[name]["output_size"]) + 2 * geometry.loss
    shapes = [(1, 1, *[first] * dims)]
    if name not in FIXED_SIZE:
        shapes.append((2, 1, first + 2 * geometry.step, *[first] * (dims - 1)))
    exported = in_onnx_runtime(network, torch.randn(*shapes[0]))
    for shape in shapes:
        image = torch.randn(*shape)
        with torch.no_grad():
            torch.testing.assert_close(exported(image), network(image), atol=1e-4, rtol=0)
