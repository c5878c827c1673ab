import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.interpolate import BSpline
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from overtile.transforms.sampling import Positions
from overtile.transforms.sampling import sample as sample_images
from overtile.transforms.warp import Warp, grid_size, rotation

ROUNDING = 2e-5  # coordinates are float32: about 1e-7 of a position of up to 100 voxels
FIELDS = ["bicubic", "bspline"]
TILES = [pytest.param((33, 20), id="2D"), pytest.param((7, 6, 9), id="3D")]


def still(tile, displacements, field, spacing=None):
    """A warp around the tile's own centre, so that coordinates less voxel indices are the displacements."""
    segments = [points - (1 if field == "bicubic" else 3) for points in displacements.shape[1:]]
    spacing = spacing or tuple((size - 1) / count for size, count in zip(tile, segments, strict=True))
    return Warp(tile, (np.array(tile) - 1) / 2, np.eye(len(tile)), displacements, spacing, field)


def sample(image, coordinates, mode):
    positions = Positions(coordinates, torch.eye(coordinates.shape[-1]))
    return sample_images([image], [mode], positions, [0])[0]


def dense(warp):
    return warp.coordinates().numpy() - np.indices(warp.tile)


def random(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def keys(t):
    """Cubic convolution, equation 15 of Keys 1981 with a = -0.75 for its -1/2."""
    t = abs(t)
    if t <= 1:
        return 1.25 * t**3 - 2.25 * t**2 + 1
    return -0.75 * (t**3 - 5 * t**2 + 8 * t - 4) if t < 2 else 0.0


def cubic_convolution(values, position, fold):
    """Slow twin: 4**d taps around one position; ``fold`` says what an index outside means."""
    base = np.floor(position).astype(int)
    total = 0.0
    for offset in itertools.product((-1, 0, 1, 2), repeat=len(position)):
        tap = base + offset
        weight = np.prod([keys(p - t) for p, t in zip(position, tap, strict=True)])
        total += weight * values[tuple(fold(t, size) for t, size in zip(tap, values.shape, strict=True))]
    return total


def test_the_bicubic_field_is_the_one_of_torch_with_aligned_corners():
    grid = random((2, 3, 5))
    expected = F.interpolate(torch.tensor(grid)[None], (33, 20), mode="bicubic", align_corners=True)[0]
    np.testing.assert_allclose(dense(still((33, 20), grid, "bicubic")), expected, atol=ROUNDING)


@pytest.mark.parametrize("spacing", [None, (2.5, 4, 1.7)], ids=["spans the tile", "leaves the tile"])
def test_the_bicubic_field_in_3d_is_a_sum_over_64_grid_points(spacing):
    warp = still((3, 4, 5), random((3, 3, 2, 3)), "bicubic", spacing)
    field = dense(warp)
    for voxel in np.ndindex(warp.tile):
        for values, found in zip(warp.displacements, field, strict=True):
            position = np.array(voxel) / warp.spacing
            twin = cubic_convolution(values, position, lambda tap, size: np.clip(tap, 0, size - 1))
            assert found[voxel] == pytest.approx(twin, abs=ROUNDING)


@pytest.mark.parametrize("tile", TILES)
def test_the_bspline_field_is_the_one_of_scipy(tile):
    points = (5, 6, 4)[: len(tile)]
    warp = still(tile, random((len(tile), *points)), "bspline")
    expected = warp.displacements
    for axis, (size, count, step) in enumerate(zip(tile, points, warp.spacing, strict=True)):
        knots = np.arange(-3, count + 1) * step  # the first coefficient sits one step before the tile
        expected = np.moveaxis(BSpline(knots, np.moveaxis(expected, axis + 1, 0), 3)(np.arange(size)), 0, axis + 1)
    np.testing.assert_allclose(dense(warp), expected, atol=ROUNDING)


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("tile", TILES)
def test_equal_displacements_are_a_shift(tile, field):
    shift = np.arange(1.0, len(tile) + 1).reshape(-1, *(1,) * len(tile))
    grid = np.broadcast_to(shift, (len(tile), *(4,) * len(tile)))
    np.testing.assert_allclose(dense(still(tile, grid, field)), np.broadcast_to(shift, (len(tile), *tile)), atol=1e-5)


def test_the_bicubic_field_goes_through_the_displacements():
    grid = random((2, 3, 5))
    np.testing.assert_allclose(dense(still((33, 21), grid, "bicubic"))[:, ::16, ::5], grid, atol=ROUNDING)


@pytest.mark.parametrize(("field", "expected"), [("bicubic", 7.6), ("bspline", 4.8)])
def test_sigma_10_on_3x3_points_moves_a_voxel_by_as_much_as_the_documentation_says(field, expected):
    points = 3 if field == "bicubic" else 5
    impulses = np.eye(points**2).reshape(-1, points, points)  # the response to each point; variances add
    variance = sum(dense(still((572, 572), np.stack([one, one]), field))[0] ** 2 for one in impulses)
    assert 10 * np.sqrt(variance).mean() == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(
    ("size", "spacing", "field", "points"),
    [
        pytest.param(572, 285.5, "bicubic", 3, id="2015: 3 points"),
        pytest.param(540, 150, "bspline", 7, id="release: 4 intervals, 5 points, 2 outside"),
        pytest.param(132, 32, "bspline", 8, id="2016: 132 voxels"),
        pytest.param(116, 32, "bspline", 7, id="2016: 116 voxels"),
        pytest.param(97, 32, "bspline", 6, id="a whole number of intervals"),
        pytest.param(18, 17 / 7, "bicubic", 8, id="a spacing with rounding error"),
        pytest.param(1, 32, "bicubic", 2, id="an axis of one voxel"),
    ],
)
def test_the_grid_has_as_many_points_as_it_takes_to_span_the_tile(size, spacing, field, points):
    assert grid_size(size, spacing, field) == points


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("tile", TILES)
def test_an_inset_only_leaves_out_the_rim(tile, field):
    dims = len(tile)
    matrix = np.eye(dims) + 0.2 * random((dims, dims))
    warp = Warp(tile, np.full(dims, 20.0), matrix, random((dims, *(5,) * dims)), (4.0,) * dims, field)
    inner = (slice(None), *(slice(2, -2),) * dims)
    np.testing.assert_allclose(warp.coordinates(2), warp.coordinates()[inner], atol=ROUNDING)
    corner = np.array(warp.affine(2))[:, -1]
    np.testing.assert_allclose(corner, warp.affine() @ ([2] * dims + [1]))


REACHES = {"inside": 0.0, "near": 0.4, "far outside": 30.0}


def cases(*shapes):
    parts = pytest.param((12, 11, 9)[: len(shapes[-1])], -3.0, id="well inside")  # a part only is read
    return [parts, *(pytest.param(s, r, id=f"{s} {name}") for s in shapes for name, r in REACHES.items())]


def positions(shape, reach, count=(8, 25)):
    """Random float32 coordinates up to ``reach`` voxels outside the image, away from ties."""
    rng = np.random.default_rng(1)
    low, high = np.floor(-reach), np.ceil(np.array(shape) - 1 + reach)
    size = (*count, 3)[: len(shape)]
    whole = [rng.integers(low, last + 1, size) for last in high]
    offset = rng.uniform(-0.45, 0.45, (len(shape), *size))
    limits = [(-reach, size - 1 + reach) for size in shape]
    return np.stack([np.clip(w + o, *lim) for w, o, lim in zip(whole, offset, limits, strict=True)]).astype(np.float32)


@pytest.mark.parametrize(("shape", "reach"), cases((6, 5), (1, 7), (9, 1), (4, 5, 6), (1, 5, 3), (2, 1, 1)))
@pytest.mark.parametrize(("mode", "order"), [("bilinear", 1), ("nearest", 0)])
def test_sampling_is_the_one_of_scipy_with_mirrored_borders(shape, reach, mode, order):
    image, where = np.random.default_rng(0).uniform(size=(2, *shape)), positions(shape, reach)
    expected = [map_coordinates(channel, where.astype(float), order=order, mode="mirror") for channel in image]
    found = sample(torch.tensor(image), torch.tensor(where), mode)
    assert found.dtype == (torch.float64 if mode == "nearest" else torch.float32)
    np.testing.assert_allclose(found, expected, atol=ROUNDING if mode == "bilinear" else 0)


@pytest.mark.parametrize(("shape", "reach"), cases((6, 5), (1, 7), (3, 2)))
def test_bicubic_sampling_is_a_sum_over_16_mirrored_voxels(shape, reach):
    def fold(tap, size):
        return np.pad(np.arange(size), 60, mode="reflect")[tap + 60] if size > 1 else 0

    image, where = np.random.default_rng(0).uniform(size=shape), positions(shape, reach, (3, 12))
    twin = [cubic_convolution(image, position, fold) for position in where.reshape(2, -1).T.astype(float)]
    found = sample(torch.tensor(image)[None], torch.tensor(where), "bicubic")
    np.testing.assert_allclose(found.flatten(), twin, atol=3 * ROUNDING)  # steeper than linear


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int32, torch.int64], ids=str)
def test_nearest_keeps_type_and_largest_number(dtype):
    largest = 1 if dtype == torch.bool else torch.iinfo(dtype).max
    image = torch.tensor([[[0, largest], [largest, 0]]], dtype=dtype)
    found = sample(image, torch.tensor([[[0.2, 2.9]], [[1.1, 7.6]]]), "nearest")
    assert found.dtype == dtype
    assert found.tolist() == [[[largest, largest]]]  # (0, 1) and (3, 8), that is (1, 0)


def test_rotation_is_the_one_of_scipy_about_the_axes_in_order():
    a, b, c = 0.3, -1.1, 2.5
    np.testing.assert_allclose(rotation([a])[::-1, ::-1], rotation([-a]))
    expected = Rotation.from_euler("xyz", [a, -b, c]).as_matrix()  # about axis 1 from axis 0 to 2, the left-handed way
    np.testing.assert_allclose(rotation([a, b, c]), expected, atol=1e-15)
