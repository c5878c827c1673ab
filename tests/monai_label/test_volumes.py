"""MONAI Label with 3D NIfTI, as 3D Slicer uses it, and with classes in place of instances."""

import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
SHIFTS = [(shift, axis) for shift in (-2, -1, 1, 2) for axis in (0, 1)]
AFFINE = np.diag([-0.5, -0.5, 2.0, 1.0])


def read_volume(content, folder):
    """An answer's NIfTI, compressed or not."""
    file = folder / "answer.nii"
    file.write_bytes(gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content)
    return nib.load(file)


@pytest.fixture
def volumes(sample, tmp_path):
    """Three cuts of one volume as NIfTI ``(x, y, z)`` with axes and sizes of their own, and their instances."""
    image, label = (array.transpose() for array in sample(3))
    for folder in ("images", "truth"):
        (tmp_path / folder).mkdir()
    for number, name in enumerate("abc"):
        cut = np.s_[19 * number : 19 * number + 19]
        nib.save(nib.Nifti1Image(image[cut].astype(np.float32), AFFINE), tmp_path / "images" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(label[cut].astype(np.uint16), AFFINE), tmp_path / "truth" / f"{name}.nii.gz")
    return tmp_path


def test_labels_of_volumes_train_a_3d_network_that_answers_in_their_coordinates(start, overlay, volumes):
    options = overlay(output_size=20, batch_size=2, steps_per_epoch=40, foreground_prob=0.5, deformation=1.0)
    with start(volumes / "images", "--config_file", str(ROOT / "configs" / "3d.yaml"), *options) as server:
        info = json.loads(server.get("/info/")[1])["models"]["overtile_segmentation"]
        assert (info["dimension"], info["labels"]) == (3, {"cell": 1})
        for name in "ab":
            assert server.submit(name, volumes / "truth" / f"{name}.nii.gz")[0] == 200
        status, said = server.train(max_epochs=2)
        assert status == "DONE", said
        assert "Total Records for Training: 2" in said  # of so few none is held out
        status, content = server.infer("c")
    assert status == 200, content
    mask, truth = read_volume(content, volumes), nib.load(volumes / "truth" / "c.nii.gz").get_fdata()
    assert mask.get_data_dtype() == np.uint16
    np.testing.assert_allclose(mask.affine, AFFINE)
    mask = np.asarray(mask.dataobj)
    assert mask.shape == truth.shape == (19, 40, 31)
    assert mask.max() > 1
    assert 2 * np.count_nonzero((mask > 0) & (truth > 0)) / (np.count_nonzero(mask) + np.count_nonzero(truth)) > 0.6


def test_classes_are_learnt_as_classes(start, overlay, sample, tmp_path):
    """Inside and rim of the nuclei, as two classes."""
    image, label = (array[:, :340] for array in sample(2))
    inside = label * np.minimum.reduce([np.roll(label, shift, axis) == label for shift, axis in SHIFTS])
    classes = np.where(inside > 0, 2, label > 0).astype(np.uint8)
    (tmp_path / "images").mkdir()
    for number, name in enumerate("abcd"):
        y, x = divmod(number, 2)
        cut = np.s_[168 * y : 168 * y + 168, 170 * x : 170 * x + 170]
        tifffile.imwrite(tmp_path / "images" / f"{name}.tif", image[cut])
        tifffile.imwrite(tmp_path / f"{name}.tif", classes[cut])
    options = overlay(instances=False, out_channels=3, class_names=["background", "rim", "inside"])
    with start(tmp_path / "images", *options) as server:
        info = json.loads(server.get("/info/")[1])["models"]["overtile_segmentation"]
        assert info["labels"] == {"rim": 1, "inside": 2}
        for name in "abc":
            assert server.submit(name, tmp_path / f"{name}.tif")[0] == 200
        status, said = server.train(max_epochs=3)
        assert status == "DONE", said
        status, content = server.infer("d")
    assert status == 200, content
    (tmp_path / "mask.tif").write_bytes(content)
    mask, truth = tifffile.imread(tmp_path / "mask.tif"), tifffile.imread(tmp_path / "d.tif")
    assert set(np.unique(mask)) == {0, 1, 2}
    found, there = mask == 2, truth == 2
    assert 2 * np.count_nonzero(found & there) / (np.count_nonzero(found) + np.count_nonzero(there)) > 0.7
