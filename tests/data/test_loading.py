"""Every format comes in as it was written, and every file that does not fit is named."""

import pickle
import sys
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
import torch
from monai.data import NibabelReader
from monai.transforms import LoadImaged
from PIL import Image

from overtile.data import LoadImagesd, datalist

R = np.random.RandomState(0)
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def save(path: Path, array: np.ndarray, mode: str | None = None) -> str:
    """Write an array with x first, by the library that other people use for the format."""
    name = path.name
    if name.endswith((".nii", ".nii.gz")):
        nibabel.save(nibabel.Nifti1Image(array, np.diag([0.5, 0.5, 2.0, 1.0])), path)
    elif name.endswith((".mha", ".mhd", ".nrrd")):
        itk.imwrite(itk.image_from_array(np.ascontiguousarray(array.T)), str(path))
    elif name.endswith((".tif", ".tiff")):
        tifffile.imwrite(path, array.T, photometric="minisblack")
    else:
        picture = Image.fromarray(array.swapaxes(0, 1))
        (picture.convert(mode) if mode else picture).save(path)
    return str(path)


def load(path: str, key: str = "image", **options: object) -> torch.Tensor:
    return LoadImagesd([key], **options)({key: path})[key]


# --- formats --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("a.png", "uint8"),
        ("a.png", "uint16"),
        ("a.bmp", "uint8"),
        ("a.TIF", "uint8"),
        ("a.tiff", "uint16"),
        ("a.tif", "float32"),
        ("a.nii", "int16"),
        ("a.nii.gz", "uint8"),
        ("a.mha", "uint16"),
        ("a.mhd", "uint8"),
        ("a.nrrd", "float32"),
    ],
)
def test_a_2d_image_of_every_format_comes_with_x_first(tmp_path, name, dtype):
    array = R.randint(0, 255, (7, 5)).astype(dtype)
    path = tmp_path / name
    if name == "a.TIF":
        tifffile.imwrite(path, array.T)
    else:
        save(path, array)
    image = load(str(path), spatial_dims=2, channels=1)
    np.testing.assert_array_equal(image.numpy(), array[None])
    assert image.dtype == torch.float32
    assert image.meta["filename_or_obj"] == str(path)


@pytest.mark.parametrize("name", ["a.tif", "a.nii", "a.nii.gz", "a.mha", "a.mhd", "a.nrrd"])
def test_a_volume_of_every_format_comes_with_x_first(tmp_path, name):
    array = R.randint(0, 255, (7, 5, 3)).astype(np.uint8)
    image = load(save(tmp_path / name, array), spatial_dims=3, channels=1)
    np.testing.assert_array_equal(image.numpy(), array[None])


def test_a_jpeg_is_read(tmp_path):
    assert load(save(tmp_path / "a.jpg", np.full((16, 8), 100, np.uint8))).numpy() == pytest.approx(100, abs=2)


def test_a_volume_of_one_slice_is_an_image_and_can_be_saved_as_one(tmp_path):
    array = R.randint(0, 255, (7, 5, 1)).astype(np.uint8)
    image = load(save(tmp_path / "a.nii.gz", array), spatial_dims=2)
    np.testing.assert_array_equal(image.numpy(), array[None, ..., 0])
    assert image.meta["spatial_shape"].tolist() == [7, 5]


def test_it_is_a_loader_that_takes_the_arguments_of_monai(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.ones((7, 5, 3), np.uint8))
    loader = LoadImagesd("image", NibabelReader, np.float64, image_only=False, allow_missing_keys=True, meta_keys="m")
    assert isinstance(loader, LoadImaged)
    loaded = loader({"image": path, "other": 1})
    assert loaded["image"].dtype == torch.float64
    assert loaded["m"]["filename_or_obj"] == path
    assert loaded["other"] == 1
    with pytest.raises(KeyError, match="m already exists"):
        loader({"image": path, "m": {}})
    assert load(path, reader="ITKReader").shape == (1, 7, 5, 3)


def test_it_can_be_sent_to_a_worker_process(tmp_path):
    path = save(tmp_path / "a.tif", np.ones((7, 5), np.uint8))
    loader = pickle.loads(pickle.dumps(LoadImagesd("image", spatial_dims=2)))
    assert loader({"image": path})["image"].shape == (1, 7, 5)


def test_a_machine_without_itk_reads_the_common_formats(tmp_path, monkeypatch):
    files = {name: save(tmp_path / name, np.ones((7, 5), np.uint8)) for name in ("a.tif", "a.png", "a.nii.gz", "a.mha")}
    monkeypatch.setitem(sys.modules, "itk", None)  # an import of it fails, as where it is not installed
    for name in ("a.tif", "a.png", "a.nii.gz"):
        assert load(files[name]).shape == (1, 7, 5)
    with pytest.raises(RuntimeError, match=r"a\.mha: this format needs ITK: pip install itk"):
        load(files["a.mha"])


# --- sizes and dimensions -------------------------------------------------------------------------------------------


def test_image_and_label_of_different_size_are_both_named(tmp_path):
    image = save(tmp_path / "image.tif", np.zeros((7, 5), np.uint8))
    label = save(tmp_path / "label.png", np.zeros((5, 7), np.uint8))
    with pytest.raises(ValueError, match=r"image\.tif has \(7, 5\) and .*label\.png has \(5, 7\)"):
        LoadImagesd(["image", "label"])({"image": image, "label": label})


@pytest.mark.parametrize(
    ("shape", "spatial_dims", "message"),
    [
        ((7, 5, 3), 2, r"a\.tif is 3D, of size \(7, 5, 3\), but this network is 2D; use the 3D overlay or save single"),
        ((7, 5), 3, r"a\.tif is 2D, of size \(7, 5\), but this network is 3D; use the 2D network or save volumes"),
    ],
)
def test_an_image_of_other_dimensions_than_the_network_is_named(tmp_path, shape, spatial_dims, message):
    with pytest.raises(ValueError, match=message):
        load(save(tmp_path / "a.tif", np.zeros(shape, np.uint8)), spatial_dims=spatial_dims)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="spatial_dims must be 2, 3 or None, got 4"):
        LoadImagesd("image", spatial_dims=4)
    with pytest.raises(ValueError, match="for ensure_channel_first=False use LoadImaged"):
        LoadImagesd("image", ensure_channel_first=False)


# --- channels -------------------------------------------------------------------------------------------------------

GRAY = R.randint(0, 255, (7, 5)).astype(np.uint8)
COLOUR = R.randint(0, 255, (7, 5, 3)).astype(np.uint8)


def colour_file(path: Path, array: np.ndarray) -> str:
    """An RGB or RGBA file, ``array`` with x first and colours last."""
    if path.suffix == ".tif":
        tifffile.imwrite(path, array.swapaxes(0, 1), photometric="rgb")
        return str(path)
    return save(path, array)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("alpha", [False, True], ids=["opaque", "alpha"])
def test_colours_are_fitted_to_the_network_without_loss(tmp_path, name, alpha):
    def file(array: np.ndarray) -> str:
        opacity = np.full((*array.shape[:2], 1), 200, np.uint8)
        return colour_file(tmp_path / name, np.concatenate([array, opacity], axis=-1) if alpha else array)

    colour = file(COLOUR)
    np.testing.assert_array_equal(load(colour, channels=3).numpy(), COLOUR.transpose(2, 0, 1))
    with pytest.raises(ValueError, match=rf"{name} has 3 channels, but this network takes 1; .*--in_channels 3"):
        load(colour, channels=1)
    gray = file(GRAY[..., None].repeat(3, axis=-1))
    np.testing.assert_array_equal(load(gray, channels=1).numpy(), GRAY[None])


def test_a_gray_image_is_repeated_for_three_channels_and_for_no_other_number(tmp_path):
    path = save(tmp_path / "a.png", GRAY)
    np.testing.assert_array_equal(load(path, channels=3).numpy(), np.stack([GRAY] * 3))
    with pytest.raises(ValueError, match=r"a\.png has 1 channels, but this network takes 2"):
        load(path, channels=2)


def test_all_channels_are_kept_where_the_network_is_not_known(tmp_path):
    assert load(colour_file(tmp_path / "a.tif", COLOUR)).shape == (3, 7, 5)


def test_four_modalities_are_not_mistaken_for_colours_with_alpha(tmp_path):
    path = save(tmp_path / "a.nii.gz", R.rand(7, 5, 3, 4).astype(np.float32))
    assert load(path, channels=4).shape == (4, 7, 5, 3)
    with pytest.raises(ValueError, match=r"has 4 channels, but this network takes 3; .*--in_channels 4"):
        load(path, channels=3)


@pytest.mark.parametrize(("mode", "name"), [("P", "a.png"), ("CMYK", "a.jpg")])
def test_palettes_and_inks_of_images_are_turned_into_colours(tmp_path, mode, name):
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    image = load(save(tmp_path / name, red, mode), channels=3)
    assert image[0].numpy() == pytest.approx(255, abs=20)  # JPEG rounds
    assert image[1:].numpy() == pytest.approx(0, abs=20)


# --- labels ---------------------------------------------------------------------------------------------------------


def test_a_palette_label_keeps_its_numbers(tmp_path):
    picture = Image.fromarray(GRAY.T % 4)
    picture.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    assert picture.mode == "P"
    picture.save(tmp_path / "a.png")
    np.testing.assert_array_equal(load(str(tmp_path / "a.png"), "label").numpy(), GRAY[None] % 4)


def test_a_gray_label_saved_in_colour_is_one_channel_and_a_coloured_one_is_named(tmp_path):
    gray = colour_file(tmp_path / "gray.png", GRAY[..., None].repeat(3, axis=-1))
    np.testing.assert_array_equal(load(gray, "label").numpy(), GRAY[None])
    with pytest.raises(ValueError, match=r"colour\.png is a label of 3 different channels, but a label is one channel"):
        load(colour_file(tmp_path / "colour.png", COLOUR), "label")


def test_label_keys_say_which_keys_are_labels(tmp_path):
    path = colour_file(tmp_path / "a.png", COLOUR)
    assert load(path, "label", label_keys=()).shape == (3, 7, 5)
    with pytest.raises(ValueError, match="is a label of 3"):
        load(path, "mask", label_keys="mask")


def test_labels_that_are_no_numbers_of_objects_are_named(tmp_path):
    half = save(tmp_path / "half.tif", np.full((7, 5), 0.5, np.float32))
    with pytest.raises(ValueError, match=r"half\.tif is a label with values that are not whole numbers"):
        load(half, "label")
    with pytest.raises(ValueError, match=r"lossy\.jpg is a JPEG, whose compression changes label numbers"):
        load(save(tmp_path / "lossy.jpg", GRAY), "label")
    large = save(tmp_path / "large.tif", np.full((7, 5), 2**24 + 1, np.uint32))
    with pytest.raises(ValueError, match=r"large\.tif has label 16777216, .*renumber the objects"):
        load(large, "label")
    assert load(large, "label", dtype=None).max() == 2**24 + 1


# --- files that cannot be read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.tif", "a.nii", "a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("damage", ["truncated", "text", "empty", "missing"])
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path, name, damage):
    path = Path(save(tmp_path / name, R.randint(0, 255, (40, 50)).astype(np.uint8)))
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "text": b"this is no image\n" * 40}.get(damage, b""))
    if damage == "missing":
        path.unlink()
    with pytest.raises(RuntimeError, match=rf"cannot read {tmp_path / name}: .+") as caught:
        load(str(path))
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 600
    assert caught.value.__cause__ is not None
    if damage in ("empty", "missing"):
        assert message.endswith({"empty": "the file is empty", "missing": "the file does not exist"}[damage])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_named(tmp_path, value):
    array = np.ones((7, 5), np.float32)
    array[3, 2] = value
    with pytest.raises(ValueError, match=r"a\.tif has values that are not finite"):
        load(save(tmp_path / "a.tif", array))


def test_a_time_series_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 6, 7), np.uint8), imagej=True, metadata={"axes": "TYX"})
    with pytest.raises(RuntimeError, match=r"cannot read .*a\.tif: the file has a time axis of 4 frames"):
        load(str(tmp_path / "a.tif"))


# --- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "spatial_dims"),
    [("isbi2012", 2), ("DIC-C2DH-HeLa", 2), ("Task04_Hippocampus", 3), ("BBBC039", 2), ("Usiigaci", 2)],
)
def test_real_data_sets_are_loaded(folder, spatial_dims):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the data set {folder} is not on this machine (looked in {SHARED})")
    loader = LoadImagesd(["image", "label"], spatial_dims=spatial_dims, channels=1)
    for pair in datalist(SHARED / folder, "validation")[:3]:
        loaded = loader(pair)
        assert loaded["image"].shape == loaded["label"].shape
        assert loaded["label"].max() > 0
