"""What more than one test file needs: a tiny data set, and the bundle's workflows with tiny settings."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigWorkflow
from monai.utils import set_determinism

from overtile.exports import write_onnx
from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[1]

if "PYTEST_XDIST_WORKER" in os.environ:  # as many processes as cores: one thread for each, and for what it starts
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"

# one level: 12 voxels of margin less 4, so a window of 20 voxels is read from 28; a step takes milliseconds
TINY = {
    "levels": 1,
    "features": 2,
    "output_size": 20,
    "steps_per_epoch": 2,
    "max_epochs": 2,
    "val_interval": 1,
    "device": "cpu",
    "progress": False,
}
BOXES = ((5, 15, 5, 15), (16, 30, 8, 20), (10, 22, 28, 40))  # three cells of 100, 168 and 144 pixels


@pytest.fixture
def randomise():
    """Gives a module random biases, scales and statistics: no zero and no one that a mistake could hide behind."""

    def fill(module, spread=0.5):
        for name, tensor in module.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                tensor.normal_(0, spread)
            elif tensor.ndim == 1:
                tensor.uniform_(0.5, 1.5)
        return module

    return fill


@pytest.fixture
def random_u_net(randomise):
    """Makes small U-Nets in evaluation mode with random weights, biases and running statistics, the same each time."""

    def make(dims=2, levels=2, **options):
        torch.manual_seed(0)
        return randomise(UNet(dims, 2, 3, levels=levels, features=3, **options)).eval()

    return make


@pytest.fixture
def in_onnx_runtime(tmp_path):
    """Exports a network with an example of its input to ONNX, and returns what answers in its place."""
    pytest.importorskip("onnx", reason='needs pip install "overtile[onnx]"')
    onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "overtile[onnx]"')

    def export(network, example):
        write_onnx(network, example, tmp_path / "network.onnx")
        session = onnxruntime.InferenceSession(str(tmp_path / "network.onnx"), providers=["CPUExecutionProvider"])
        return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])

    return export


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """A data set folder: two training images and one validation image of three bright cells on 40x48 pixels."""
    root = tmp_path_factory.mktemp("cells")
    random = np.random.default_rng(0)
    for section, names in {"training": ("one", "two"), "validation": ("held_out",)}.items():
        for name in names:
            label = np.zeros((40, 48), np.uint8)
            for number, (top, bottom, left, right) in enumerate(BOXES, start=1):
                label[top:bottom, left:right] = number
            image = (60.0 * (label > 0) + random.normal(20, 5, label.shape)).clip(0, 255).astype(np.uint8)
            for folder, array in {"images": image, "labels": label}.items():
                file = root / section / folder / f"{name}.tif"
                file.parent.mkdir(parents=True, exist_ok=True)
                tifffile.imwrite(file, array)
    return root


@pytest.fixture
def workflow(cells, tmp_path, monkeypatch):
    """Makes an initialised workflow of config files of the bundle, with tiny settings and files below ``tmp_path``."""

    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # a run exchanges it
    monkeypatch.setattr(sys, "path", [*sys.path])  # MONAI puts the bundle there

    def make(*configs, workflow_type="train", **overrides):
        places = {"bundle_root": str(ROOT), "dataset_dir": str(cells), "ckpt_dir": str(tmp_path / "models")}
        settings = {**TINY, **places, "output_dir": str(tmp_path / "output"), **overrides}
        files = [str(ROOT / "configs" / name) for name in configs]
        made = ConfigWorkflow(config_file=files, workflow_type=workflow_type, logging_file=False, **settings)
        made.initialize()
        return made

    yield make
    set_determinism(None)  # `initialize` sets MONAI's global seed
