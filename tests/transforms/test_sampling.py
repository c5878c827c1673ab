from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from overtile.transforms import sampling
from overtile.transforms.sampling import SLAB, Positions, sample

VOLUME = (43, 37, 51)  # odd, and more than one slab
DTYPES = [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.float16, torch.float32, torch.float64]


def at(coordinates):
    """Positions given one by one, (d, *size)."""
    coordinates = torch.as_tensor(coordinates, dtype=torch.float32)
    return Positions(coordinates, torch.eye(coordinates.shape[-1]))


def read(positions, image, mode):
    """One image by itself."""
    return sample([image], [mode], positions, [0])[0]


def around(shape, size, shift=0.0, seed=0):
    """A smooth map of ``size`` voxels, (d, *size), around the middle of an image; ``shift`` moves it off the image."""
    rng = np.random.default_rng(seed)
    grid = np.indices(size) - (np.reshape(size, (-1,) + (1,) * len(size)) - 1) / 2
    turn = np.eye(len(size)) + rng.uniform(-0.3, 0.3, (len(size),) * 2)
    centre = (np.array(shape) - 1) / 2 + shift
    moved = np.tensordot(turn, grid, axes=1) + centre.reshape((-1,) + (1,) * len(size))
    return (moved + 2 * np.sin(moved[::-1] / 7)).astype(np.float32)


def twin(image, coordinates, order):
    """SciPy's, in float64."""
    where = np.asarray(coordinates, dtype=float)
    return np.stack([map_coordinates(channel, where, order=order, mode="mirror") for channel in np.asarray(image)])


def random(shape, dtype=torch.float64):
    values = np.random.default_rng(1).uniform(size=shape)
    return torch.tensor(values if dtype.is_floating_point else values * 120).to(dtype)


@pytest.mark.parametrize("shift", [0, (20, -9, 3), 60, -400], ids=["middle", "partly outside", "outside", "far"])
@pytest.mark.parametrize("size", [(55, 49, 53), (7, 5, 3)], ids=["larger", "smaller"])
def test_a_volume_of_many_slabs_and_channels_is_sampled_as_by_scipy(size, shift):
    assert np.prod((55, 49, 53)) > SLAB  # or the larger size is one slab only
    image, where = random((3, *VOLUME)), around(VOLUME, size, shift)
    found = read(at(where), image, "bilinear")
    assert found.shape == (3, *size)
    np.testing.assert_allclose(found, twin(image, where, 1), atol=1e-4 if np.max(np.abs(shift)) > 99 else 2e-5)


@pytest.mark.parametrize("shape", [(43, 37), (9, 8, 7)], ids=["2D", "3D"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_values_of_every_type_are_interpolated_in_float32(dtype, shape):
    image, where = random((2, *shape), dtype), around(shape, shape)
    found = read(at(where), image, "bilinear")
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, twin(image.double(), where, 1), atol=2e-5 * float(image.double().max()))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("shift", [0, 11.25])
def test_a_volume_one_voxel_thin_is_the_same_slice_all_along(axis, shift):
    shape = tuple(1 if other == axis else size for other, size in enumerate((9, 8, 7)))
    image, where = random((1, *shape)), around(shape, (5, 6, 7), shift)
    np.testing.assert_allclose(read(at(where), image, "bilinear"), twin(image, where, 1), atol=2e-5)


@pytest.mark.parametrize("size", [(400, 401), (55, 49, 53)], ids=["2D", "3D"])
def test_large_labels_are_gathered_in_every_slab_and_never_pass_through_floats(size):
    shape = VOLUME[: len(size)]
    label = 2**53 + 1 + torch.arange(2 * np.prod(shape)).reshape(2, *shape)  # no float64 holds every one of these
    where = around(shape, size, 15)
    index = twin(torch.arange(np.prod(shape)).reshape(1, *shape).double(), where, 0).astype(np.int64)[0]
    found = read(at(where), label, "nearest")
    same = found == label.reshape(2, -1)[:, index]
    assert found.dtype == torch.int64
    assert (~same).float().mean() < 1e-4  # ties, in float32


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(400, 401), (55, 49, 53)], ids=["2D", "3D"])
def test_the_inner_positions_are_those_of_the_whole_without_the_rim(size, mode):
    shape = VOLUME[: len(size)]
    image, where = random((1, *shape)), at(around(shape, size))
    whole = read(where, image, mode)
    inner = where[where.inset(2)]
    assert inner.size == tuple(n - 4 for n in size)
    inside = (slice(None), *(slice(2, -2),) * len(size))
    np.testing.assert_allclose(read(inner, image, mode), whole[inside], atol=2e-5)
    for found, expected in zip(sample([image] * 2, [mode] * 2, where, [2, 0]), (whole[inside], whole), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(43, 37), VOLUME], ids=["2D", "3D"])
def test_images_sampled_together_are_each_as_sampled_alone(shape):
    where = at(around(shape, shape, 4))
    images = [random((channels, *shape), dtype) for channels, dtype in ((2, torch.float64), (1, torch.int32))]
    modes = ["bilinear", "nearest", "nearest", "bilinear"]
    together = sample(images * 2, modes, where, [0] * 4)
    for image, mode, found in zip(images * 2, modes, together, strict=True):
        assert torch.equal(found, read(where, image, mode))


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint32, torch.int64, *DTYPES], ids=str)
@pytest.mark.parametrize("shape", [(43, 37), (9, 8, 7)], ids=["2D", "3D"])
def test_labels_of_every_type_keep_it_and_their_values(dtype, shape):
    label, where = random((2, *shape), dtype), around(shape, shape, 5)
    found = read(at(where), label, "nearest")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found.double(), twin(label.double(), where, 0))


def test_numbers_that_float32_rounds_stay_what_they_are():
    label = 2**24 + torch.arange(30, dtype=torch.int32).reshape(1, 5, 6)  # every second one is no float32
    positions = at(np.indices((5, 6)))
    assert torch.equal(read(positions, label, "nearest"), label)


@pytest.mark.parametrize("shift", [0, (200, 0), (-200, 0), (0, 300), (900, -900), 5000], ids=str)
def test_large_pictures_are_read_in_slabs_with_what_is_mirrored(shift, monkeypatch):
    monkeypatch.setattr(sampling, "GRID", 2**12)
    shape = (211, 190)
    image, where = random((1, *shape)), around(shape, (230, 205), shift)
    label = (image * 100).int()
    found = sample([image, label, label.long() + 2**53], ["bilinear", "nearest", "nearest"], at(where), [0, 20, 20])
    assert np.prod(where.shape[1:]) > 10 * sampling.GRID
    np.testing.assert_allclose(found[0], twin(image, where, 1), atol=1e-3 if shift == 5000 else 2e-4)
    inside = twin(label, where, 0)[:, 20:-20, 20:-20]
    assert (found[1].numpy() == inside).mean() > 0.999  # ties, in float32
    assert (found[2] - 2**53 == found[1]).double().mean() > 0.999


def test_memory_that_is_used_again_changes_no_sample_that_was_given_away():
    coordinates = [around((60, 70), (50, 64), shift=shift) for shift in (0.0, 9.0, -20.0)]
    images = [random((1, 60, 70)).float() * (n + 1) for n in range(3)]
    samples = [read(at(c), image, "bilinear") for c, image in zip(coordinates, images, strict=True)]
    for found, image, where in zip(samples, images, coordinates, strict=True):
        np.testing.assert_allclose(found, twin(image, where, order=1), atol=1e-4)


def test_larger_and_smaller_images_follow_each_other():
    for size in (8, 90, 8, 40):
        where = around((size, size), (size, size))
        image = random((2, size, size))
        np.testing.assert_allclose(read(at(where), image, "bilinear"), twin(image, where, 1), atol=1e-4)


def test_threads_do_not_share_the_memory():
    where = around((64, 64), (64, 64))
    images = [random((1, 64, 64)).float() + n for n in range(16)]
    with ThreadPoolExecutor(8) as pool:
        samples = list(pool.map(lambda image: read(at(where), image, "bilinear"), images * 8))
    expected = [read(at(where), image, "bilinear") for image in images] * 8
    assert all(torch.equal(sample, other) for sample, other in zip(samples, expected, strict=True))


def test_what_was_sampled_in_inference_mode_does_not_forbid_sampling_elsewhere():
    where = around((33, 33), (33, 33))

    def in_a_new_thread():
        with torch.inference_mode():
            read(at(where), random((1, 33, 33)), "bilinear")
        return read(at(where), random((1, 33, 33)).requires_grad_(), "bilinear")

    with ThreadPoolExecutor(1) as pool:
        sample = pool.submit(in_a_new_thread).result()
    assert not sample.requires_grad
    np.testing.assert_allclose(sample, twin(random((1, 33, 33)), where, 1), atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("shape", [(43, 37), VOLUME], ids=["2D", "3D"])
def test_images_on_a_gpu_are_sampled_as_on_the_cpu(shape):
    where, images = at(around(shape, shape, 4)), [random((2, *shape)), random((1, *shape), torch.int32)]
    expected = sample(images, ["bilinear", "nearest"], where, [0, 3])
    found = sample(
        [image.cuda() for image in images],
        ["bilinear", "nearest"],
        Positions(where.rows.double().cuda(), where.columns.double().cuda()),
        [0, 3],
    )
    torch.testing.assert_close(found[0].cpu(), expected[0], atol=1e-4, rtol=0)
    assert (found[1].cpu() == expected[1]).float().mean() > 0.999
