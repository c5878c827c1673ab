"""TIFF files: what is written is read again, and what other programs write is understood."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from monai.data import MetaTensor
from monai.data.utils import affine_to_spacing
from monai.transforms import LoadImage, SaveImaged
from PIL import Image

from overtile.data import TiffReader, TiffWriter

R = np.random.RandomState(0)
TYPES = ("uint8", "uint16", "int16", "int32", "uint32", "float32")


def voxels(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "float32":
        return R.rand(*shape).astype(dtype)
    return R.randint(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype=dtype)


def read(path: Path) -> tuple[np.ndarray, dict]:
    reader = TiffReader()
    return reader.get_data(reader.read(path))


def spacing(metadata: dict, spatial_dims: int) -> np.ndarray:
    assert metadata["affine"].shape == (spatial_dims + 1, spatial_dims + 1)
    return affine_to_spacing(metadata["affine"], r=spatial_dims)


def write(path: Path, array: np.ndarray, metadata: dict, output_dtype: object = None, **options: object) -> None:
    writer = TiffWriter(output_dtype=output_dtype)
    writer.set_data_array(array, **options)
    writer.set_metadata(metadata)
    writer.write(path)


# --- round trips ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("size", [(0.19, 0.25), (0.2, 0.21, 1.5)], ids=["2d", "3d"])
def test_what_is_written_is_read_again_with_its_size_and_type(tmp_path, dtype, size):
    array = voxels((7, 6, 5)[: len(size)], dtype)
    affine = np.diag([*size, 1.0])
    write(tmp_path / "a.tif", array[None], {"affine": affine, "original_affine": affine, "unit": "um"})
    again, metadata = read(tmp_path / "a.tif")
    assert again.dtype == array.dtype
    np.testing.assert_array_equal(again, array)
    np.testing.assert_allclose(spacing(metadata, len(size)), size, rtol=1e-6)  # the file holds fractions of integers
    assert metadata["unit"] == "um"
    assert metadata["spatial_shape"].tolist() == list(array.shape)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("shape", [(3, 7, 6), (3, 7, 6, 5)], ids=["2d", "3d"])
def test_channels_are_written_and_read_as_channels(tmp_path, dtype, shape):
    array = voxels(shape, dtype)
    write(tmp_path / "a.tif", array, {})
    again = LoadImage(reader=TiffReader, ensure_channel_first=True, dtype=None)(tmp_path / "a.tif")
    np.testing.assert_array_equal(again.numpy(), array)


@pytest.mark.parametrize("dtype", ["uint16", "int32"])
def test_a_saved_image_has_the_voxel_size_of_the_file_it_was_read_from(tmp_path, dtype):
    tifffile.imwrite(
        tmp_path / "a.tif",
        voxels((5, 6, 7), "uint8"),
        imagej=True,
        resolution=(4, 5),
        metadata={"axes": "ZYX", "unit": "micron", "spacing": 2.0},
    )
    image = LoadImage(reader="overtile.data.TiffReader", ensure_channel_first=True)(tmp_path / "a.tif")
    assert isinstance(image, MetaTensor)
    save = SaveImaged(
        "pred",
        output_dir=tmp_path,
        output_postfix="pred",
        output_ext=".tif",
        output_dtype=np.dtype(dtype),
        separate_folder=False,
        writer="overtile.data.TiffWriter",
        print_log=False,
    )
    save({"pred": image + 1})
    again, metadata = read(tmp_path / "a_pred.tif")
    np.testing.assert_array_equal(again, image.numpy()[0] + 1)
    np.testing.assert_allclose(spacing(metadata, 3), (0.25, 0.2, 2.0), rtol=1e-6)
    assert again.dtype == dtype


def test_fiji_finds_the_voxel_size_where_it_looks_for_it(tmp_path):
    affine = np.diag([0.25, 0.5, 2.0, 1.0])
    write(tmp_path / "a.tif", voxels((1, 7, 6, 5), "uint16"), {"affine": affine, "unit": "um"})
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_imagej
        assert tif.series[0].axes == "ZYX"
        assert (tif.imagej_metadata["unit"], tif.imagej_metadata["spacing"]) == ("um", 2.0)
        assert tif.pages.first.tags["XResolution"].value == (4, 1)
        assert tif.pages.first.tags["YResolution"].value == (2, 1)
        assert tif.pages.first.compression.name == "ADOBE_DEFLATE"


def test_an_affine_without_unit_is_in_millimetres_and_no_affine_is_no_size(tmp_path):
    write(tmp_path / "mm.tif", voxels((1, 7, 6, 5), "uint8"), {"affine": np.diag([-1.5, 1.5, 3.0, 1.0])})
    np.testing.assert_allclose(spacing(read(tmp_path / "mm.tif")[1], 3), (1500, 1500, 3000), rtol=1e-6)
    write(tmp_path / "none.tif", voxels((1, 7, 6), "uint8"), {})
    assert read(tmp_path / "none.tif")[1]["unit"] == "pixel"


# --- the writer -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "output_dtype", "written"),
    [
        (np.array([0, 70_000]), np.uint16, "int32"),
        (np.array([0, 255]), np.uint16, "uint16"),
        (np.array([0.0, 300.0]), np.uint8, "uint16"),
        (np.array([-1, 1]), np.uint8, "int16"),
        (np.array([0, 2**32 - 1]), None, "uint32"),
        (np.array([0, 1], dtype=np.int64), None, "uint16"),
        (np.array([False, True]), None, "uint8"),
        (np.array([0.5, 1.5]), None, "float32"),
    ],
)
def test_numbers_that_do_not_fit_their_type_get_a_wider_one(tmp_path, given, output_dtype, written):
    write(tmp_path / "a.tif", given.reshape(1, 1, 2), {}, output_dtype)
    again, _ = read(tmp_path / "a.tif")
    assert again.dtype == written
    assert again.ravel().tolist() == given.tolist()


def test_numbers_beyond_32_bit_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"integers of up to 32 bit here, got values from 0 to 4294967296; renumber"):
        write(tmp_path / "a.tif", np.array([[[0, 2**32]]]), {})


def test_a_volume_of_one_slice_is_saved_as_an_image_and_none_of_one_axis(tmp_path):
    write(tmp_path / "a.tif", voxels((1, 7, 6, 1), "uint8"), {})
    assert read(tmp_path / "a.tif")[0].shape == (7, 6)
    with pytest.raises(ValueError, match=r"2 or 3 spatial axes, got 1"):
        TiffWriter().set_data_array(np.zeros((1, 7)))


def test_an_array_without_channels_is_written_as_it_is(tmp_path):
    array = voxels((7, 6), "uint8")
    write(tmp_path / "a.tif", array, {}, channel_dim=None)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], array)


def test_resampling_returns_to_the_voxels_of_the_original(tmp_path):
    fine = np.kron(voxels((4, 4), "uint8"), np.ones((2, 2), np.uint8))
    writer = TiffWriter(output_dtype=np.uint8)
    writer.set_data_array(fine[None])
    affine = np.array([[0.5, 0, -0.25], [0, 0.5, -0.25], [0, 0, 1]])  # pixels of half the size, the same corner
    writer.set_metadata(
        {"affine": affine, "original_affine": np.eye(3), "spatial_shape": (4, 4)}, resample=True, mode="nearest"
    )
    writer.write(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], fine[::2, ::2])


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", voxels((1, 7, 6), "uint8"), {})
    before = (tmp_path / "a.tif").read_bytes()

    def broken(path: Path, *_: object, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(tifffile, "imwrite", broken)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a.tif", voxels((1, 7, 6), "uint8"), {})
    assert [path.name for path in tmp_path.iterdir()] == ["a.tif"]
    assert (tmp_path / "a.tif").read_bytes() == before


# --- files of other programs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "options", "result", "channels"),
    [
        ((6, 7), {}, (7, 6), False),
        ((5, 6, 7), {"photometric": "minisblack"}, (7, 6, 5), False),
        ((6, 7, 3), {"photometric": "rgb"}, (7, 6, 3), True),
        ((6, 7, 4), {"photometric": "rgb"}, (7, 6, 4), True),
        ((3, 6, 7), {"photometric": "rgb", "planarconfig": "separate"}, (7, 6, 3), True),
        ((5, 6, 7, 3), {"photometric": "rgb"}, (7, 6, 5, 3), True),
        ((5, 2, 6, 7), {"imagej": True, "metadata": {"axes": "ZCYX"}}, (7, 6, 5, 2), True),
        ((1, 5, 1, 6, 7), {"imagej": True, "metadata": {"axes": "TZCYX"}}, (7, 6, 5), False),
        ((2, 5, 6, 7), {"ome": True, "metadata": {"axes": "CZYX"}}, (7, 6, 5, 2), True),
        ((6, 7), {"byteorder": ">"}, (7, 6), False),
    ],
    ids=["page", "pages", "rgb", "rgba", "planar", "rgb-stack", "hyperstack", "singletons", "ome", "big-endian"],
)
def test_axes_are_recognised_and_reversed(tmp_path, shape, options, result, channels):
    array = voxels(shape, "uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, **options)
    again, metadata = read(tmp_path / "a.tif")
    assert again.shape == result
    assert again.dtype == np.uint16
    assert (metadata["original_channel_dim"] == -1) == channels
    assert sorted(again.ravel()) == sorted(array.ravel())
    x_first = again[1, 0].ravel()[0]  # one step along the first axis is one step along x
    assert (
        x_first
        == (array[..., 1, 0] if options.get("photometric") == "rgb" and shape[-1] < 5 else array[..., 1]).flat[0]
    )


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((4, 6, 7), "TYX", r"time axis of 4 frames; save single frames, or, .* swap t and z"),
        ((4, 5, 6, 7), "TZYX", r"time axis of 4 frames"),
    ],
)
def test_a_time_axis_is_refused(tmp_path, shape, axes, message):
    tifffile.imwrite(tmp_path / "a.tif", voxels(shape, "uint8"), imagej=True, metadata={"axes": axes})
    with pytest.raises(ValueError, match=message):
        read(tmp_path / "a.tif")


def test_more_axes_than_three_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", voxels((2, 3, 4, 6, 7), "uint8"), photometric="minisblack")
    with pytest.raises(
        ValueError, match=r"may have the axes x, y, z and one of channels, this one has .*\(2, 3, 4, 6, 7"
    ):
        read(tmp_path / "a.tif")


IMAGEJ = {"imagej": True, "resolution": (4, 5)}


@pytest.mark.parametrize(
    ("options", "size", "unit"),
    [
        ({**IMAGEJ, "metadata": {"axes": "ZYX", "unit": "micron", "spacing": 2.0}}, (0.25, 0.2, 2), "um"),
        ({**IMAGEJ, "metadata": {"axes": "ZYX", "unit": "\\u00B5m", "spacing": -2.0}}, (0.25, 0.2, 2), "um"),
        ({**IMAGEJ, "metadata": {"axes": "ZYX", "unit": "nm", "spacing": 50}}, (0.00025, 0.0002, 0.05), "um"),
        ({**IMAGEJ, "metadata": {"axes": "ZYX", "unit": "um"}}, (0.25, 0.2, 1), "um"),
        ({**IMAGEJ, "metadata": {"axes": "ZYX", "spacing": 1.0}}, (1, 0.8, 4), "pixel"),
        ({"imagej": True, "metadata": {"axes": "ZYX"}}, (1, 1, 1), "pixel"),
        ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 0.3}}, (0.3, 0.3, 0.3), "um"),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "ZYX",
                    **{"PhysicalSizeX": 4, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 5, "PhysicalSizeYUnit": "nm"},
                    **{"PhysicalSizeZ": 0.05, "PhysicalSizeZUnit": "µm"},
                },
            },
            (0.004, 0.005, 0.05),
            "um",
        ),
        ({"resolution": (20_000, 40_000), "resolutionunit": "CENTIMETER"}, (0.5, 0.25, 0.5), "um"),
        ({"resolution": (25_400, 25_400), "resolutionunit": "INCH"}, (1, 1, 1), "um"),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, (1, 1, 1), "pixel"),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, (1, 1, 1), "pixel"),
        ({"resolution": (5, 5), "resolutionunit": "NONE"}, (1, 1, 1), "pixel"),
        ({}, (1, 1, 1), "pixel"),
    ],
)
def test_the_voxel_size_is_found_where_programs_write_it(tmp_path, options, size, unit):
    tifffile.imwrite(tmp_path / "a.tif", voxels((5, 6, 7), "uint8"), **{"photometric": "minisblack", **options})
    _, metadata = read(tmp_path / "a.tif")
    np.testing.assert_allclose(spacing(metadata, 3), size, rtol=1e-6)
    assert metadata["unit"] == unit


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("pages", [1, 3])
def test_lzw_compressed_files_are_read_without_further_packages(tmp_path, dtype, pages):
    array = voxels((pages, 6, 7), dtype)
    first, *others = (Image.fromarray(page) for page in array)
    first.save(tmp_path / "a.tif", compression="tiff_lzw", save_all=True, append_images=others)
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0], array.T.squeeze())


@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"imagej": True}, {"ome": True}], ids=str)
@pytest.mark.parametrize("shape", [(64, 64), (10, 64, 64)], ids=["2d", "3d"])
@pytest.mark.parametrize("part", [0.01, 0.3, 0.6, 0.95])
def test_a_truncated_file_is_an_error_and_never_a_thinner_volume(tmp_path, options, shape, part):
    tifffile.imwrite(tmp_path / "a.tif", voxels(shape, "uint8"), photometric="minisblack", **options)
    content = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(content[: int(part * len(content))])
    with pytest.raises(Exception, match=r"."):  # tifffile and zlib have many words for it; LoadImagesd finds one
        read(tmp_path / "a.tif")


def test_several_files_are_stacked_as_channels(tmp_path):
    arrays = [voxels((6, 7), "uint8") for _ in range(2)]
    for name, array in zip("ab", arrays, strict=True):
        tifffile.imwrite(tmp_path / f"{name}.tif", array)
    image = LoadImage(reader=TiffReader, ensure_channel_first=True)([tmp_path / "a.tif", tmp_path / "b.tif"])
    np.testing.assert_array_equal(image.numpy(), np.stack(arrays).transpose(0, 2, 1))


def test_only_tiff_suffixes_are_claimed():
    reader = TiffReader()
    assert reader.verify_suffix("a.TIF")
    assert reader.verify_suffix(["a.tiff", Path("b.ome.tif")])
    assert not reader.verify_suffix("a.tif.png")
    assert not reader.verify_suffix(["a.tif", "b.png"])
