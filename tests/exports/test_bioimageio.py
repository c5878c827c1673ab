"""The package for Fiji, ilastik and QuPath, read and run by the format's own programs."""

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.transforms import NormalizeIntensity

from overtile.data import sample_folder
from overtile.exports import ModelCard, WithHalo, write_package
from overtile.exports.bioimageio import fitted
from overtile.inferers import OverlapTileInferer
from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[2]
NEEDS = 'needs pip install "overtile[bioimageio]"'
OPTIONS = {
    "2D": {"levels": 2, "features": 4, "norm": "batch"},
    "3D": {"levels": 1, "features": 2, "spatial_dims": 3},
    "2D same": {"levels": 1, "features": 4, "padding": "same"},
}
WITHOUT_OVERTILE = """
import sys
sys.modules["overtile"] = None
import runpy
sys.argv = ["bioimageio", "test", sys.argv[1]]
runpy.run_module("bioimageio.core", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="module")
def network_and_package(tmp_path_factory):
    """Makes a network and its package, by the command line."""
    pytest.importorskip("bioimageio.core", reason=NEEDS)
    pytest.importorskip("onnxruntime", reason=NEEDS)
    made = {}

    def make(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp("package")
            torch.manual_seed(0)
            network = UNet(**OPTIONS[kind]).eval()
            torch.save(network.state_dict(), folder / "model.pt")
            lines = [f"{name}: {value}\n" for name, value in {**OPTIONS[kind], "dropout": 0.5}.items()]
            (folder / "model.yaml").write_text("".join(lines))
            done = export(folder / "network.zip", "--weights", folder / "model.pt")
            assert done.returncode == 0, done.stdout + done.stderr
            made[kind] = network, folder / "network.zip"
        return made[kind]

    return make


def run(*command, cwd=None):
    quiet = {"PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, *map(str, command)]
    return subprocess.run(call, cwd=cwd, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)


def export(*arguments):
    return run(ROOT / "scripts" / "export_bioimageio.py", *arguments)


@pytest.mark.slow
@pytest.mark.parametrize("kind", OPTIONS)
def test_it_passes_the_formats_own_test_in_every_weights_format_without_our_package(
    kind, network_and_package, tmp_path
):
    _, package = network_and_package(kind)
    (tmp_path / "alone.py").write_text(WITHOUT_OVERTILE)
    done = run("alone.py", package, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
    said = done.stdout + done.stderr
    assert "passed" in said
    for weights in ("onnx", "pytorch_state_dict", "torchscript"):
        assert f"Testing inference with '{weights}' for 6 different inputs" in said


@pytest.mark.slow
@pytest.mark.parametrize("weights", ["onnx", "pytorch_state_dict", "torchscript"])
def test_tiled_by_bioimageio_it_answers_as_the_inferer_does(weights, network_and_package):
    network, package = network_and_package("2D")
    core, spec = pytest.importorskip("bioimageio.core"), pytest.importorskip("bioimageio.spec")
    image = tifffile.imread(Path(sample_folder()) / "training" / "images" / "top.tif").astype(np.float32)
    assert all(size % network.geometry.step == 0 for size in image.shape)
    pipeline = core.create_prediction_pipeline(spec.load_model_description(package), weights_format=weights)
    blocks = core.predict(model=pipeline, inputs={"image": image[None, None]}, blocksize_parameter=30)
    theirs = np.asarray(blocks.members["probabilities"].data)

    normalised = NormalizeIntensity(channel_wise=True)(torch.from_numpy(image.T.copy())[None])  # MONAI's x is first
    ours = OverlapTileInferer()(normalised[None], network).softmax(1).transpose(2, 3)
    np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


@pytest.mark.slow
def test_the_package_holds_what_a_user_and_a_zoo_ask_for(network_and_package):
    _, package = network_and_package("2D")
    spec = pytest.importorskip("bioimageio.spec")
    model = spec.load_model_description(package)
    (image,), (probabilities,) = model.inputs, model.outputs
    assert [axis.id for axis in image.axes] == ["batch", "channel", "y", "x"]
    assert (image.axes[2].size.min, image.axes[2].size.step, probabilities.axes[2].halo) == (44, 4, 20)
    assert model.license == "Apache-2.0"
    assert {entry.doi for entry in model.cite} >= {"10.1007/978-3-319-24574-4_28"}
    with zipfile.ZipFile(package) as archive:
        names = set(archive.namelist())
        assert {"original.tif", "inference.json", "network.py", "README.md", "cover.png"} <= names
        assert "from overtile" not in [line[:13] for line in archive.read("network.py").decode().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "nowhere.pt"], "no trained weights at nowhere.pt: .* --weights"),
        (["--weights", "model.pt", "--config_file", "none.yaml"], "there is no config file none.yaml"),
        (["--weights", "model.pt"], "holds the weights of another network"),
    ],
    ids=["no weights", "no overlay", "other weights"],
)
def test_a_mistake_on_the_command_line_is_one_sentence(arguments, message, tmp_path):
    torch.save(UNet(levels=1, features=2).state_dict(), tmp_path / "model.pt")
    script = ROOT / "scripts" / "export_bioimageio.py"
    done = run(script, "network.zip", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(message, done.stderr), done.stderr


def test_without_bioimageio_the_remedy_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    card = ModelCard("a network", "", "1.0.0", ["us"], "MIT", [], ["background", "cell"], [], "")
    with pytest.raises(ImportError, match=r'pip install "overtile\[bioimageio\]"'):
        write_package(UNet(levels=1, features=2).eval(), {}, np.zeros((1, 20, 20)), card, tmp_path / "network.zip")


@pytest.mark.parametrize(("size", "expected"), [(18, 18), (19, 18), (5, 18), (41, 40)])
def test_a_test_image_is_the_largest_legal_part_or_is_mirrored(size, expected):
    image = np.arange(size * 40, dtype=np.float32).reshape(1, size, 40)
    part = fitted(image, WithHalo(UNet(levels=1, features=1)))
    assert part.shape == (1, expected, 40)
    assert set(part.flat) <= set(image.flat)
