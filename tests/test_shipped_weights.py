"""The weights in models/, and what models/README.md says of them."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tifffile

from overtile.metrics import instance_scores

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "../shared/data/BBBC039"
SHA256 = "2bbd7973c26a6175fe6a0fe9282c4fd2f559e30054dab5b024593c24cba731c5"
LARGEST = 20_000_000  # bytes


@pytest.fixture(scope="module", autouse=True)
def weights():
    path = ROOT / "models" / "model.pt"
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        pytest.skip("models/model.pt is not the one that comes with the bundle: a training has replaced it")
    return path


def run(run_id, configs, *options):
    """The command of the README, from the bundle's root."""
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "monai.bundle",
        "run",
        run_id,
        "--config_file",
        str(configs),
        *options,
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_weights_are_small_enough_for_a_repository(weights):
    assert weights.stat().st_size < LARGEST


@pytest.mark.slow
def test_nuclei_are_segmented_by_a_clone_without_any_training(tmp_path):
    sample = ROOT / "bundle/overtile/data/sample/nuclei2d/validation"
    configs = ["configs/inference.json", "models/model.yaml"]
    run("inferring", configs, "--dataset_dir", str(sample / "images"), "--output_dir", str(tmp_path))
    (found,) = (tifffile.imread(path) for path in tmp_path.glob("*.tif"))
    truth = tifffile.imread(sample / "labels" / "bottom.tif")
    scores = instance_scores(truth, found, iou_threshold=0.5)
    assert scores.f1 == pytest.approx(0.589, abs=0.02)  # nuclei of another kind: see the limits in models/README.md


@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the images of BBBC039 in {DATA}")
def test_the_scores_are_those_of_the_model_card(tmp_path):
    configs = ["configs/train.json", "configs/experiments/bbbc039.yaml", "configs/evaluate.json", "models/model.yaml"]
    run("evaluating", configs, "--dataset_dir", str(DATA), "--output_dir", str(tmp_path), "--averaging", "none")
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert scores["val_f1"] == pytest.approx(0.920, abs=0.002)
    assert scores["val_average_precision"] == pytest.approx(0.732, abs=0.002)
    card = (ROOT / "models" / "README.md").read_text(encoding="utf-8")
    assert "| F1 at IoU 0.7 | 0.928 | 0.920 |" in card
