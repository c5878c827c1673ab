"""Another bundle, in its own style and with MONAI's stock engines, uses the installed package's parts by name."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import overtile
from overtile.networks import UNet


@pytest.mark.slow
def test_another_bundle_trains_and_predicts_with_parts_of_this_one(tmp_path):
    folder = shutil.copytree(Path(__file__).parent / "other_bundle", tmp_path / "other_bundle")
    packages = str(Path(overtile.__file__).parents[1])  # as if installed, whether it is or not
    settings = {"PYTHONPATH": packages, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", "configs/train.json"]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (file,) = (folder / "models").iterdir()
    UNet(2, 1, 2, levels=2, features=4).load_state_dict(torch.load(file, weights_only=True))
    assert (folder / "answer.txt").read_text() == "(1, 2, 70, 90)"
