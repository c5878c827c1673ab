"""Pictures and volumes to label, cut out of the embedded sample, and the options of a network that learns them fast."""

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest
import tifffile
import yaml

from overtile.data import datalist, sample_folder

_spec = importlib.util.spec_from_file_location("monai_label_server", Path(__file__).with_name("server.py"))
server = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(server)

VARIABLE = "OVERTILE_LABEL_PYTHON"
SMALL = {  # learns the nuclei of the sample in some hundred steps of ten milliseconds
    "features": 4,
    "levels": 2,
    "norm": "batch",
    "dropout": 0.0,
    "output_size": 60,
    "steps_per_epoch": 60,
    "val_interval": 1,
    "learning_rate": 0.01,
    "deformation": 2.0,
    "progress": False,
    "optimizer": {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"},
}


@pytest.fixture(scope="session")
def label_python():
    """The Python of an environment with MONAI Label."""
    python = os.environ.get(VARIABLE)
    if not python:
        pytest.skip(
            f"set {VARIABLE} to the Python of an environment with MONAI Label, made as docs/monai_label.md says"
        )
    subprocess.run([python, "-c", "import importlib.metadata as m; m.version('monailabel')"], check=True)
    return python


@pytest.fixture(scope="module")
def start(label_python):
    """Starts the server on a folder of images; it ends with the block."""

    def begin(images, *options):
        return server.Server(label_python, images, *options)

    return begin


@pytest.fixture(scope="session")
def overlay(tmp_path_factory):
    """Writes a config overlay; the options that name it."""

    def write(**settings):
        file = tmp_path_factory.mktemp("overlay") / "small.yaml"
        file.write_text(yaml.safe_dump({**SMALL, **settings}, sort_keys=False))
        return "--config_file", str(file)

    return write


@pytest.fixture(scope="session")
def sample():
    """Image and instances of the training part of the embedded sample: 2D ``(y, x)`` or 3D ``(z, y, x)``."""

    def read(dims):
        (pair,) = datalist(sample_folder(dims), "training")
        return tifffile.imread(pair["image"]), tifffile.imread(pair["label"])

    return read
