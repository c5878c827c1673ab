import copy
import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset, MetaTensor
from monai.transforms import Compose
from monai.utils import set_determinism
from scipy.stats import kstest, uniform

from overtile.geometry import read_mirrored
from overtile.transforms import RandElasticDeform, RandElasticDeformd

SHAPES = [pytest.param((12, 9), id="2D"), pytest.param((7, 6, 8), id="3D")]
KINDS = [pytest.param(np.asarray, id="NumPy"), torch.as_tensor, MetaTensor]
NUMPY_TYPES = ["bool", "uint8", "uint16", "uint32", "int32", "int64", "float16", "float32", "float64"]
AFFINE = torch.tensor([[0.0, -0.3, 0, 5], [0.5, 0, 0.1, -7], [0, 0, 2, 1], [0, 0, 0, 1]], dtype=torch.float64)


def numbered(*shape, dtype=np.float32):
    """(1, *shape), every voxel its own number."""
    return np.arange(np.prod(shape)).reshape(1, *shape).astype(dtype)


def noise(*shape):
    return np.random.default_rng(0).uniform(size=(1, *shape)).astype(np.float32)


def drawn_window(deform, margin=0):
    """The last window, with ``margin`` voxels around it, as slices."""
    start = deform.warp.affine(deform.margin)[:-1, -1].astype(int)
    sizes = np.array(deform.warp.tile) - 2 * deform.margin
    return [slice(int(s) - margin, int(s + n) + margin) for s, n in zip(start, sizes, strict=True)]


def matrices(draws=200, dims=2, **options):
    deform = RandElasticDeform(**options).set_random_state(0)
    for _ in range(draws):
        deform.randomize((9,) * dims)
        yield deform.warp.matrix


def pair(**options):
    return RandElasticDeformd(["image", "label"], mode=("bilinear", "nearest"), **options)


@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize("dtype", NUMPY_TYPES)
def test_sigma_0_is_exactly_the_identity_and_the_type_depends_on_the_mode_alone(dtype, mode):
    image = numbered(12, 9, dtype=dtype)
    result = RandElasticDeform(sigma=0)(image, mode=mode)
    np.testing.assert_array_equal(result, image)
    moved = RandElasticDeform(sigma=1)(image, mode=mode)
    assert result.dtype == moved.dtype == (image.dtype if mode == "nearest" else np.float32)


@pytest.mark.parametrize("options", [{"sigma": 0}, {"prob": 0, "rotate_range": 3, "scale_range": 0.5, "flip_prob": 1}])
@pytest.mark.parametrize("size", [4, 5, 20], ids="window {}".format)
@pytest.mark.parametrize("shape", SHAPES)
def test_without_deformation_a_window_is_copied_and_mirrored_outside(shape, size, options):
    image = numbered(*shape)
    deform = RandElasticDeform(size, margin=7, **options).set_random_state(0)
    windows = []
    for _ in range(5):
        for margin, draw in ((7, True), (0, False), (3, False)):
            window = deform(image, margin=margin, randomize=draw)
            np.testing.assert_array_equal(window, read_mirrored(image, drawn_window(deform, margin)))
        windows.append(window)
    assert any((window != windows[0]).any() for window in windows)


@pytest.mark.parametrize("size", [None, 4, 5, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_flips_are_those_of_numpy(shape, size):
    deform = RandElasticDeform(size, margin=3, sigma=0, flip_prob=1).set_random_state(1)
    flipped = deform(numbered(*shape))
    deform.warp = replace(deform.warp, matrix=np.eye(len(shape)))  # back, to know the window
    expected = read_mirrored(numbered(*shape), drawn_window(deform, 3))
    np.testing.assert_array_equal(flipped, np.flip(expected, range(1, flipped.ndim)))


def test_flips_can_be_kept_to_some_axes():
    deform = RandElasticDeform(sigma=0, flip_prob=(1, 0, 0)).set_random_state(1)
    image = numbered(7, 8, 9)
    np.testing.assert_array_equal(deform(image), np.flip(image, 1))
    with pytest.raises(ValueError, match="flip_prob in"):
        RandElasticDeform(flip_prob=(0.5, 1.5))


@pytest.mark.parametrize("field", ["bicubic", "bspline"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_crop_of_a_deformed_tile_is_the_deformed_crop(shape, field):
    options = {"sigma": 2, "rotate_range": 1, "scale_range": 0.3, "flip_prob": 0.5, "field": field}
    deform, label = RandElasticDeform(6, margin=5, **options).set_random_state(0), numbered(*shape, dtype=np.int32)
    inner = (slice(None), *(slice(5, -5),) * len(shape))
    for _ in range(10):
        whole = deform(noise(*shape))
        crop = deform(noise(*shape), margin=0, randomize=False)
        np.testing.assert_allclose(whole[inner], crop, atol=1e-5)  # float32 coordinates
        whole = deform(label, mode="nearest", randomize=False)
        crop = deform(label, mode="nearest", margin=0, randomize=False)
        np.testing.assert_array_equal(whole[inner], crop)
        assert np.isin(whole, label).all()


def test_an_image_that_follows_from_the_label_still_does_after_deformation():
    label = (numbered(30, 40) // 57 * 100_000_007).astype(np.int64)
    both = RandElasticDeformd(["image", "label"], 12, (9, 0), "nearest", sigma=4, rotate_range=3.2).set_random_state(0)
    for _ in range(10):
        result = both({"image": label * 3, "label": label})
        assert result["image"].shape == (1, 30, 30)
        np.testing.assert_array_equal(result["image"][:, 9:-9, 9:-9], result["label"] * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_array_of_a_kind_returns_as_that_kind(kind):
    image = kind(noise(8, 8))
    result = pair(sigma=1)({"image": image, "label": image})
    assert type(result["image"]) is type(result["label"]) is type(image)


def test_the_seed_and_nothing_else_decides():
    def run(seed, numpy_seed=0):
        np.random.seed(numpy_seed)  # noqa: NPY002, what must not matter
        torch.manual_seed(numpy_seed)
        options = {"foreground_key": "label", "rotate_range": 1.0, "flip_prob": 0.5, "scale_range": 0.1}
        transform = Compose([pair(spatial_size=5, margin=2, **options)]).set_random_state(seed)
        results = [transform({"image": noise(9, 9), "label": numbered(9, 9)}) for _ in range(3)]
        return np.stack([result["image"] for result in results])

    np.testing.assert_array_equal(run(1), run(1, numpy_seed=5))
    assert (run(1) != run(2)).any()
    assert (run(1)[0] != run(1)[1]).any()


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda transform: pickle.loads(pickle.dumps(transform))])
def test_a_copy_continues_with_the_same_draws(duplicate):
    transform, data = pair(rotate_range=1).set_random_state(0), {"image": noise(9, 9), "label": noise(9, 9)}
    transform(data)
    twin = duplicate(transform)
    for _ in range(2):
        np.testing.assert_array_equal(transform(data)["image"], twin(data)["image"])


def test_two_worker_processes_draw_the_same_again_and_different_samples_in_batches_of_one_type():
    def run():
        set_determinism(3)
        data = Dataset([{"image": numbered(9, 9, dtype=np.uint8)}] * 8, transform)
        return torch.cat([batch["image"] for batch in DataLoader(data, batch_size=4, num_workers=2)])

    transform = RandElasticDeformd(["image"], sigma=2, prob=0.7)
    try:
        first, second = run(), run()
    finally:
        set_determinism(None)
    assert first.dtype == torch.float32
    assert torch.equal(first, second)
    assert len(torch.unique(first, dim=0)) > 4


def test_a_missing_key_is_an_error_unless_allowed():
    with pytest.raises(KeyError, match="label"):
        pair()({"image": noise(5, 5)})
    result = pair(allow_missing_keys=True, margin=(0, 2))({"label": noise(5, 5), "name": "a"})
    assert result["label"].shape == (1, 9, 9)
    assert result["name"] == "a"
    assert pair(allow_missing_keys=True)({"name": "a"}) == {"name": "a"}


@pytest.mark.parametrize("matrix", [None, "flips", "90 degrees"])
@pytest.mark.parametrize("shape", [pytest.param((20, 17), id="2D"), pytest.param((17, 19, 18), id="3D")])
def test_a_voxel_keeps_its_place_in_the_world(shape, matrix):
    """The image holds its own positions, which rotation and zoom interpolate exactly."""
    dims = len(shape)
    exact = {"flips": np.diag([-1.0] * dims), "90 degrees": np.eye(dims)}
    exact["90 degrees"][-2:, -2:] = [[0, -1], [1, 0]]
    image = MetaTensor(np.indices(shape), affine=AFFINE, meta={"filename_or_obj": "a.tif"})
    deform = RandElasticDeform(4, margin=1, sigma=0, rotate_range=3, scale_range=0.3, spacing=(1, 2, 3)[:dims])
    deform.set_random_state(0).randomize(np.subtract(shape, 14))
    drawn = deform.warp.matrix if matrix is None else exact[matrix]
    deform.warp = replace(deform.warp, centre=deform.warp.centre + 7, matrix=drawn)  # no voxel outside
    for margin in (0, 1):
        result = deform(image, mode="bilinear", margin=margin, randomize=False)
        np.testing.assert_allclose(
            world(image.affine, result), world(result.affine, np.indices(result.shape[1:])), atol=1e-4
        )
        if matrix is not None:
            assert deform.warp.moves_voxels_to_voxels
            np.testing.assert_array_equal(result, np.round(result))
        assert result.meta["filename_or_obj"] == "a.tif"
    assert torch.equal(image.affine, AFFINE)


def world(affine, positions):
    dims, affine = len(positions), affine.numpy()
    return np.tensordot(affine[:3, :dims], np.asarray(positions), axes=1).T + affine[:3, 3]


@pytest.mark.parametrize("field", ["bicubic", "bspline"])
def test_displacements_at_the_grid_points_have_the_standard_deviation_sigma(field):
    deform, draws = RandElasticDeform(sigma=(4, 2), grid_points=3, field=field).set_random_state(0), []
    for _ in range(2000):
        deform.randomize((17, 33))
        draws.append(deform.warp.displacements)
    assert draws[0].shape == ((2, 3, 3) if field == "bicubic" else (2, 5, 5))
    deviation = np.std(draws, axis=0) / np.array([4, 2]).reshape(2, 1, 1)
    np.testing.assert_allclose(deviation, 1, atol=5 / np.sqrt(2 * 2000))  # five standard errors
    np.testing.assert_allclose(np.mean(draws, axis=0), 0, atol=5 * 4 / np.sqrt(2000))


def test_the_grid_of_2016_has_a_point_every_32_voxels_and_one_more_all_around():
    deform = RandElasticDeform((44, 44, 28), margin=44, sigma=4, grid_spacing=32, field="bspline")
    deform.randomize((248, 244, 64))
    assert deform.warp.tile == (132, 132, 116)  # Fig. 2 of arXiv:1606.06650
    assert deform.warp.displacements.shape == (3, 8, 8, 7)
    assert deform.warp.spacing == (32, 32, 32)


def test_angle_and_zoom_are_uniform_over_their_ranges():
    drawn = list(matrices(draws=1000, rotate_range=0.5, scale_range=0.2))
    zoom = np.array([1 / np.sqrt(np.linalg.det(matrix)) for matrix in drawn])
    angle = np.array([np.arctan2(matrix[1, 0], matrix[0, 0]) for matrix in drawn])
    for values, low, high in ((zoom, 0.8, 1.2), (angle, -0.5, 0.5)):
        assert kstest(values, uniform(low, high - low).cdf).pvalue > 0.001
        assert low <= values.min() < values.max() <= high


@pytest.mark.parametrize("rotate_range", [3, (0, 0, 3), (3, 2, 1)], ids=str)
def test_with_anisotropic_voxels_a_rotation_is_one_of_physical_space(rotate_range):
    spacing = np.array([5, 0.4, 0.5])
    for matrix in matrices(dims=3, rotate_range=rotate_range, scale_range=0.2, flip_prob=0.5, spacing=spacing):
        physical = np.diag(spacing) @ matrix @ np.diag(1 / spacing)
        zoom = abs(np.linalg.det(physical)) ** (-1 / 3)
        assert 0.8 <= zoom <= 1.2
        np.testing.assert_allclose(physical @ physical.T * zoom**2, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("dims", [2, 3])
def test_only_flips_mirror_each_axis_on_its_own(dims):
    assert all(np.linalg.det(matrix) > 0 for matrix in matrices(dims=dims, rotate_range=3, scale_range=0.5))
    signs = [np.diag(matrix) for matrix in matrices(dims=dims, flip_prob=0.5)]
    assert {tuple(sign) for sign in signs} == set(itertools.product((-1, 1), repeat=dims))


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: pair()({"image": noise(5, 5), "label": noise(5, 6)}), "one spatial shape"),
        (lambda: RandElasticDeformd(["image"], mode="linear"), "'linear'"),
        (lambda: RandElasticDeform(sigma=0)(noise(5, 5), mode="linear"), "'linear'"),
        (lambda: RandElasticDeform(sigma=0)(noise(5, 5, 5), mode="bicubic"), "in 3D"),
        (lambda: RandElasticDeform(field="linear"), "'linear'"),
        (lambda: RandElasticDeform(sigma=(1, -1)), "sigma must be 0 or more"),
        (lambda: RandElasticDeform(grid_points=1), "at least 2"),
        (lambda: RandElasticDeform(grid_spacing=0), "grid_spacing positive"),
        (lambda: RandElasticDeform(spacing=(1, 0)), "must be positive"),
        (lambda: RandElasticDeform(scale_range=1), "scale_range"),
        (lambda: RandElasticDeform(flip_prob=1.1), "flip_prob"),
        (lambda: RandElasticDeform(margin=-1), "margin"),
        (lambda: pair(foreground_prob=2), "foreground_prob"),
        (lambda: RandElasticDeform((5, 5, 5))(noise(5, 5)), "one number or 2"),
        (lambda: RandElasticDeform(sigma=(1, 2))(noise(5, 5, 5)), "one number or 3"),
        (lambda: RandElasticDeform(rotate_range=(1, 2, 3))(noise(5, 5)), "one number or 1"),
        (lambda: RandElasticDeform(margin=2)(noise(5, 5), margin=3), "larger than the transform's own, 2"),
        (lambda: RandElasticDeform()(np.zeros((5, 5))), "got shape"),
        (lambda: RandElasticDeform()(np.zeros((1, 5, 5, 5, 5))), "got shape"),
    ],
)
def test_an_impossible_request_is_a_value_error_that_names_it(act, message):
    with pytest.raises(ValueError, match=message):
        act()


def test_repeating_a_draw_that_never_was_is_an_error():
    with pytest.raises(RuntimeError, match="nothing has been drawn"):
        RandElasticDeform()(noise(5, 5), randomize=False)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        pytest.param((388, 388), {"sigma": 10, "margin": 92}, id="2015"),
        pytest.param((388, 388), {"sigma": 10, "margin": 92, "grid_spacing": 150, "field": "bspline"}, id="release"),
        pytest.param((44, 44, 28), {"sigma": 4, "margin": 44, "grid_spacing": 32, "field": "bspline"}, id="2016"),
    ],
)
def test_the_deformations_of_the_papers_do_not_fold(shape, options):
    deform, unfolded, draws = RandElasticDeform(**options).set_random_state(0), 0, 20
    for _ in range(draws):
        deform.randomize(shape)
        field = deform.warp.coordinates().numpy()[(slice(None), *(slice(None, None, 4),) * len(shape))]
        gradient = [np.gradient(component) for component in field]
        unfolded += (np.linalg.det(np.moveaxis(np.array(gradient), (0, 1), (-2, -1))) > 0).all()
    assert unfolded >= 0.95 * draws


def test_a_checkerboard_deformed_as_in_2015_is_another_but_as_smooth_as_before():
    row, column = np.indices((512, 512))
    board = np.sin(row / 8) * np.sin(column / 8)  # steps between neighbours of up to 1/8
    deform = RandElasticDeform(388, margin=92).set_random_state(0)
    result = deform(board[None])
    still = read_mirrored(board[None], drawn_window(deform, 92))
    assert result.shape == (1, 572, 572)
    assert np.abs(result - still).mean() > 0.1
    steps = max(np.abs(np.diff(result, axis=axis)).max() for axis in (1, 2))
    assert steps < 1.5 / 8
