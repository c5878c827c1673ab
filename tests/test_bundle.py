"""The bundle as a user meets it: real command lines, from another folder, with the package not installed.

The bundle is copied to a temporary folder. In the processes started here ``overtile`` can be imported from that copy
only, so an installed (or editable) package of this checkout cannot help: ``UNINSTALLED`` puts a finder before all
others that looks for it on the path entries inside the copy and nowhere else.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.slow

UNINSTALLED = """
import os, runpy, sys
from importlib.machinery import PathFinder

BUNDLE = os.environ["BUNDLE_COPY"]

class OnlyFromTheCopy:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "overtile":
            return None  # the finders behind this one are asked
        spec = PathFinder.find_spec(name, [entry for entry in sys.path if entry.startswith(BUNDLE)])
        if spec is None:
            raise ModuleNotFoundError("No module named 'overtile'", name=name)
        return spec

sys.meta_path.insert(0, OnlyFromTheCopy)
sys.path[0] = os.getcwd()  # as `python -m monai.bundle` has it
sys.argv[0] = "monai.bundle"
runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
"""

TINY = ["--levels", "1", "--features", "2", "--dropout", "0.0", "--norm", "batch"]
STEPS = ["--output_size", "20", "--steps_per_epoch", "2", "--max_epochs", "2", "--val_interval", "1"]
TRAINING = [*STEPS, "--progress", "false"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A copy of what the bundle's archive holds."""
    root = tmp_path_factory.mktemp("unpacked") / "cell_segmentation"
    for folder in ("configs", "scripts", "bundle"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return root


@pytest.fixture
def call(bundle, tmp_path):
    """Calls a command line with the copy's configs, in a working folder that has a ``scripts`` package of its own."""
    (tmp_path / "elsewhere" / "scripts").mkdir(parents=True)
    (tmp_path / "elsewhere" / "scripts" / "__init__.py").touch()
    settings = {"BUNDLE_COPY": str(bundle), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": ""}
    quiet = {"PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(run_id, *configs, options=(), launcher=(), succeeds=True):
        files = [str(bundle / "configs" / name) for name in configs]
        (tmp_path / "uninstalled.py").write_text(UNINSTALLED)
        program = [*launcher, str(tmp_path / "uninstalled.py")]
        command = [sys.executable, *program, "run", run_id, "--config_file", str(files), *map(str, options)]
        done = subprocess.run(
            command,
            cwd=tmp_path / "elsewhere",
            env={**os.environ, **settings, **quiet},
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode == 0) == succeeds, done.stdout[-3000:] + done.stderr[-6000:]
        return done

    return run


def checkpoint(folder, **options):
    """A file of weights, as a training leaves it; a network of two classes that answers a bright voxel with 1."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(UNet(levels=1, features=2, dropout=0.0, **options).state_dict(), folder / "model.pt")
    return ["--ckpt_dir", str(folder)]


def test_uninstalled_it_trains_on_its_own_image_from_any_folder_and_scores_itself(call, bundle, cells, tmp_path):
    done = call("training", "train.json", options=[*TINY, *TRAINING])
    assert "val_f1" in done.stdout
    assert {file.name for file in (bundle / "models").iterdir()} == {"model.pt", "model.yaml", "last.ckpt"}
    assert (bundle / "output" / "tensorboard").is_dir()
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["scripts"]

    call("evaluating", "train.json", "evaluate.json", options=[*TINY, "--progress", "false"])
    written = json.loads((bundle / "output" / "scores.json").read_text())
    assert written["scores"].keys() == {"val_f1"}
    (image,) = written["images"]
    assert image["image"] == str(bundle / "bundle/overtile/data/sample/nuclei2d/validation/images/bottom.tif")
    with Image.open(image["picture"]) as picture:
        assert picture.size > (100, 100)

    loaded = monai.bundle.load(
        bundle.name,
        bundle_dir=str(bundle.parent),
        source="github",  # where it would look if the folder did not exist
        net_override={"levels": 1, "features": 2, "dropout": 0.0, "norm": "batch"},
    )
    weights = torch.load(bundle / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in loaded.state_dict().items())


def test_images_of_all_sizes_and_formats_become_maps_of_their_own_size(call, tmp_path):
    random = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for name, (rows, columns) in {"small.tif": (40, 50), "long.tiff": (64, 300), "line.tif": (1, 70)}.items():
        tifffile.imwrite(images / name, random.integers(0, 255, (rows, columns), np.uint8))
    half_micrometre = {"imagej": True, "resolution": (2.0, 4.0), "metadata": {"unit": "um"}}
    tifffile.imwrite(images / "scaled.tif", random.integers(0, 4000, (30, 44), np.uint16), **half_micrometre)
    Image.fromarray(random.integers(0, 255, (33, 21), np.uint8)).save(images / "picture.png")

    places = ["--dataset_dir", "../images", "--output_dir", "maps", *checkpoint(tmp_path / "weights", norm="batch")]
    call("inferring", "inference.json", options=[*TINY, "--progress", "false", *places])
    maps = {file.name: tifffile.imread(file) for file in (tmp_path / "elsewhere" / "maps").iterdir()}
    assert {name: array.shape for name, array in maps.items()} == {
        "small_seg.tif": (40, 50),
        "long_seg.tif": (64, 300),
        "line_seg.tif": (1, 70),
        "scaled_seg.tif": (30, 44),
        "picture_seg.tif": (33, 21),
    }
    assert {array.dtype for array in maps.values()} == {np.dtype(np.uint16)}
    with tifffile.TiffFile(tmp_path / "elsewhere" / "maps" / "scaled_seg.tif") as written:
        assert written.imagej_metadata["unit"] == "um"
        x, y = (written.pages[0].tags[name].value for name in ("XResolution", "YResolution"))
    assert (x[0] / x[1], y[0] / y[1]) == (2.0, 4.0)


def test_masks_of_0_and_255_train_and_score_a_network_of_classes(call, cells, tmp_path):
    data = tmp_path / "masks"
    for file in cells.rglob("*.tif"):
        target = data / file.relative_to(cells).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        array = tifffile.imread(file)
        Image.fromarray(np.uint8(255) * (array > 0) if file.parent.name == "labels" else array).save(target)
    options = ["--instances", "false", "--dataset_dir", data, "--ckpt_dir", "weights", "--output_dir", "out"]
    call("training", "train.json", options=[*TINY, *TRAINING, *options, "--learning_rate", "0.01"])
    call("evaluating", "train.json", "evaluate.json", options=[*TINY, *options])
    written = json.loads((tmp_path / "elsewhere" / "out" / "scores.json").read_text())
    dice = written["images"][0]["val_mean_dice"]
    assert written["scores"].keys() == {"val_mean_dice"}
    assert written["scores"]["val_mean_dice"] == pytest.approx(dice)


def test_a_medical_volume_becomes_a_map_in_its_own_coordinates(call, tmp_path):
    affine = np.diag([0.5, 0.75, 2.0, 1.0])
    affine[:3, 3] = (10.0, -20.0, 30.0)
    volume = np.random.default_rng(0).normal(size=(20, 24, 9)).astype(np.float32)
    nib.save(nib.Nifti1Image(volume, affine), tmp_path / "brain.nii.gz")
    network = {"spatial_dims": 3, "double_before_pool": True, "norm": "batch"}
    places = ["--dataset_dir", "../brain.nii.gz", "--output_dir", "maps", *checkpoint(tmp_path / "weights", **network)]
    options = ["--output_ext", ".nii.gz", "--levels", "1", "--features", "2"]
    call("inferring", "inference.json", "3d.yaml", options=[*options, *places])
    written = nib.load(tmp_path / "elsewhere" / "maps" / "brain_seg.nii.gz")
    assert written.shape == (20, 24, 9)
    assert written.get_data_dtype() == np.uint16
    np.testing.assert_allclose(written.affine, affine)


def test_a_command_that_cannot_run_ends_with_the_reason_and_a_status(call, tmp_path):
    (tmp_path / "elsewhere" / "empty").mkdir()
    done = call("inferring", "inference.json", options=["--dataset_dir", "empty"], succeeds=False)
    assert f"{tmp_path / 'elsewhere' / 'empty'} holds no image" in done.stderr
    assert "Traceback" not in done.stderr


def test_two_processes_train_one_network_on_shares_of_the_images(call, cells, tmp_path):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    options = [*TINY, *TRAINING, "--dataset_dir", cells, "--ckpt_dir", "weights", "--output_dir", "out"]
    shares = ["--train#dataset#progress", "true"]  # each process shows how many images it loads
    done = call("training", "train.json", "multi_gpu_train.yaml", options=[*options, *shares], launcher=launcher)
    assert done.stderr.count("1/1 [") == 2, done.stderr
    assert "2/2 [" not in done.stderr
    assert done.stdout.count("Epoch[2] Metrics") == 1
    folder = tmp_path / "elsewhere" / "weights"
    assert {file.name for file in folder.iterdir()} == {"model.pt", "model.yaml", "last.ckpt"}
    assert torch.load(folder / "last.ckpt", weights_only=True)["iteration"] == 4
    UNet(levels=1, features=2, dropout=0.0, norm="batch").load_state_dict(
        torch.load(folder / "model.pt", weights_only=True)
    )
