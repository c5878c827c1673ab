"""An annotator's day with 2D pictures, against a real MONAI Label server."""

import io
import json
import shutil
import subprocess
from pathlib import Path

import itk
import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from skimage.io import imread

from overtile.networks import UNet

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
OTHER = ROOT / "tests" / "other_bundle"


@pytest.fixture(scope="module")
def pictures(sample, tmp_path_factory):
    """Six cuts of one image, in every format: a folder of images and a folder of their instance labels."""
    image, label = sample(2)
    root = tmp_path_factory.mktemp("pictures")
    (root / "images").mkdir()
    (root / "truth").mkdir()
    names = ("a.png", "b.tif", "c.tiff", "d.bmp", "e.png", "f.tif")
    for number, name in enumerate(names):
        y, x = divmod(number, 3)
        cut = np.s_[168 * y : 168 * y + 168, 170 * x : 170 * x + 170]
        picture = image[cut].astype(np.uint16 if name == "c.tiff" else np.uint8)
        if name.endswith(("tif", "tiff")):
            tifffile.imwrite(root / "images" / name, picture)
        else:
            Image.fromarray(picture).save(root / "images" / name)
        tifffile.imwrite(root / "truth" / f"{name[0]}.tif", label[cut])
    (root / "images" / "corrupt.png").write_bytes(b"no picture at all")
    return root


@pytest.fixture(scope="module")
def app(pictures):
    """A server's folder in which somebody has already put a bundle of his own, with weights of his own."""
    app = pictures / "app"
    other = shutil.copytree(OTHER, app / "model" / "spots_segmentation")
    torch.manual_seed(1)
    (other / "models").mkdir()
    torch.save(UNet(2, 1, 2, levels=2, features=4).state_dict(), other / "models" / "model.pt")
    return app


@pytest.fixture(scope="module")
def running(start, pictures, app, overlay):
    with start(pictures / "images", "--app", str(app), *overlay(min_size=20)) as server:
        yield server


def mask_of(answer):
    status, content = answer
    assert status == 200, content
    return imread(io.BytesIO(content))


def dice(truth, mask):
    return 2 * np.count_nonzero((truth > 0) & (mask > 0)) / (np.count_nonzero(truth) + np.count_nonzero(mask))


def test_it_lists_model_labels_and_images(running):
    status, content = running.get("/info/")
    info = json.loads(content)
    assert status == 200
    model = info["models"]["overtile_segmentation"]
    assert (model["type"], model["dimension"], model["labels"]) == ("segmentation", 2, {"cell": 1})
    assert model["config"]["min_size"] == 20
    assert info["trainers"].keys() == info["models"].keys() == {"overtile_segmentation", "spots_segmentation"}
    assert info["datastore"]["total"] == 7


def test_submitted_labels_train_the_network_that_proposes_the_next_masks(running, pictures, app):
    truth = {file.stem: tifffile.imread(file) for file in (pictures / "truth").iterdir()}
    before = mask_of(running.infer("f"))
    assert before.dtype == np.uint16
    weights = app / "model" / "overtile_segmentation" / "models" / "model.pt"
    untrained = weights.read_bytes()

    # 3D Slicer saves a label as NIfTI, of a picture as a volume of one slice
    nib.save(nib.Nifti1Image(truth["e"].T[:, :, None], np.diag([-1.0, -1.0, 1.0, 1.0])), pictures / "e.nii.gz")
    for label in (*(pictures / "truth" / f"{name}.tif" for name in "abcd"), pictures / "e.nii.gz"):
        status, content = running.submit(label.name[0], label)
        assert status == 200, content
    status, said = running.train(max_epochs=3)
    assert status == "DONE", said
    assert "Total Records for Training: 4" in said
    assert "Total Records for Validation: 1" in said
    assert said.count("Epoch[3] Metrics") == 1, said  # once, though 3D Slicer sends run_id ""
    assert weights.read_bytes() != untrained

    after = mask_of(running.infer("f"))
    assert after.shape == truth["f"].shape == (168, 170)
    assert after.max() > 3
    assert dice(truth["f"], after) > max(0.8, dice(truth["f"], before))


def test_a_client_may_set_for_one_mask_what_follows_the_network(running, tmp_path):
    usual = mask_of(running.infer("f"))
    assert mask_of(running.infer("f", min_size=10**6)).max() == 0
    np.testing.assert_array_equal(mask_of(running.infer("f")), usual)
    status, content = running.infer("f", output="json")
    assert status == 200
    assert json.loads(content)["label_names"] == {"cell": 1}
    # as 3D Slicer asks
    status, content = running.infer("f", result_extension=".nrrd", result_dtype="uint8")
    (tmp_path / "mask.nrrd").write_bytes(content)
    np.testing.assert_array_equal(itk.imread(tmp_path / "mask.nrrd"), usual)


def test_what_cannot_be_served_is_answered_by_an_error_and_the_server_lives_on(running):
    for answer, status in {
        running.infer("f", model="unknown"): 404,
        running.infer("unknown"): 404,
        running.infer("corrupt"): 500,
        running.ask("POST", "/train/unknown", {"run_sync": True}, b"{}"): 500,
    }.items():
        assert answer[0] == status, answer
    assert "cannot read" in running.said()
    mask_of(running.infer("f"))


def test_a_label_that_is_no_image_ends_the_training_with_its_name_and_the_server_lives_on(running, pictures):
    kept = running.submit("a", pictures / "truth" / "a.tif", content=b"no label at all")
    status, said = running.train(max_epochs=1)
    running.submit("a", pictures / "truth" / "a.tif")
    assert (kept[0], status) == (200, "ERROR")
    assert "cannot read" in said
    assert "labels/final/a.tif" in said
    mask_of(running.infer("f"))


def test_another_bundle_beside_it_infers_and_trains_and_neither_disturbs_the_other(running, app):
    other = app / "model" / "spots_segmentation" / "models"
    ours = mask_of(running.infer("f"))
    theirs = mask_of(running.infer("f", model="spots_segmentation"))
    assert theirs.shape == ours.shape
    assert (theirs > 0).sum() != (ours > 0).sum()
    np.testing.assert_array_equal(mask_of(running.infer("f")), ours)

    first = (other / "model.pt").read_bytes()
    status, said = running.train("spots_segmentation", max_epochs=1)
    assert status == "DONE", said
    assert (other / "model.pt").read_bytes() != first
    np.testing.assert_array_equal(mask_of(running.infer("f")), ours)
    assert (mask_of(running.infer("f", model="spots_segmentation")) != theirs).any()


def test_a_server_started_again_goes_on_with_what_was_learnt(running, start, pictures, app):
    """MONAI Label takes the shortest name in models/*.pt for the model, at its start: there is but one."""
    with start(pictures / "images", "--app", str(app)) as again:
        np.testing.assert_array_equal(mask_of(again.infer("f")), mask_of(running.infer("f")))


def test_other_options_than_those_of_the_first_start_are_refused(running, label_python, pictures, app):
    command = [label_python, "scripts/label.py", pictures / "images", "--app", app, "--config_file", "configs/3d.yaml"]
    done = subprocess.run([*command, "--port", "0"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "was made with" in done.stderr
