import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd
from scipy import ndimage
from skimage.segmentation import find_boundaries

from overtile.metrics import instance_scores
from overtile.transforms.instances import LabelInstances, LabelInstancesd, label_instances

DIAGONAL = np.array([[1.0, 0.0], [0.0, 1.0]])
RING = np.array(
    [
        [1, 1, 1, 1, 1, 0, 0],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 0, 1, 0, 1, 0, 1],
        [1, 0, 0, 0, 1, 0, 0],
        [1, 1, 1, 1, 1, 0, 0],
    ],
    dtype=float,
)
BUMPS = np.array([[0.6, 0.9, 0.7, 0.55, 0.8, 0.9, 0.6, 0.0, 0.6, 0.6]])  # two peaks, one pass, one low object


def ball(shape, centre, radius):
    distance = np.linalg.norm(np.indices(shape).T - np.array(centre), axis=-1).T
    return distance <= radius


def two_balls(ndim):
    """Two of radius 7, with centres 12 apart, so that they overlap: one component with a neck."""
    shape = (24,) * (ndim - 1) + (36,)
    centres = [(12,) * (ndim - 1) + (x,) for x in (11, 23)]
    left, right = (ball(shape, centre, 7) for centre in centres)
    return left, right, (left | right).astype(float)


def same_partition(a, b):
    """Whether two label images number the same objects, by whatever names."""
    scores = instance_scores(a, b, iou_threshold=1.0)
    return scores.false_positives == scores.false_negatives == 0


def numbers(instances):
    return np.unique(np.asarray(instances)).tolist()


@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.floats(0, 1, width=32)))
def test_without_options_it_is_scipy_label_of_the_thresholded_map(probability):
    expected, _ = ndimage.label(probability > 0.5, np.ones((3,) * probability.ndim))
    instances = label_instances(probability)
    assert instances.dtype == np.int32
    np.testing.assert_array_equal(instances, expected)


def test_a_voxel_at_exactly_the_threshold_is_background():
    np.testing.assert_array_equal(label_instances(np.array([[0.25, 0.26]]), 0.25), [[0, 1]])


@pytest.mark.parametrize(("connectivity", "count"), [(None, 1), (2, 1), (1, 2)], ids=["default", "corners", "faces"])
def test_a_diagonal_contact_joins_over_corners_only(connectivity, count):
    assert label_instances(DIAGONAL, connectivity=connectivity).max() == count


@pytest.mark.parametrize(("connectivity", "count"), [(1, 3), (2, 2), (3, 1), (None, 1)])
def test_in_3d_there_are_contacts_by_face_edge_and_corner(connectivity, count):
    probability = np.zeros((3, 3, 3))
    probability[0, 0, 0] = probability[1, 1, 1] = probability[1, 2, 2] = 1  # touch at a corner, then along an edge
    assert label_instances(probability, connectivity=connectivity).max() == count


@given(st.data(), st.sampled_from([(12, 15), (6, 7, 8)]), st.booleans())
def test_instances_parted_by_a_gap_come_back_from_their_mask(data, shape, as_torch):
    seeds = data.draw(st.lists(st.integers(0, np.prod(shape) - 1), min_size=1, max_size=6, unique=True))
    points = np.stack(np.unravel_index(seeds, shape))
    distance = np.linalg.norm(np.indices(shape)[:, None] - points[(...,) + (None,) * len(shape)], axis=0)
    cells = distance.argmin(axis=0) + 1
    parted = np.where(find_boundaries(cells, connectivity=len(shape), mode="inner"), 0, cells)
    parted = sum(  # of a cell that the gap cut in two, only the first piece
        i * (ndimage.label(parted == i, np.ones((3,) * len(shape)))[0] == 1) for i in range(1, len(seeds) + 1)
    )
    mask = (parted > 0).astype(float)
    assert same_partition(parted, label_instances(torch.from_numpy(mask) if as_torch else mask))


class TestHoles:
    def test_are_filled_with_whatever_lies_inside(self):
        expected = np.zeros(RING.shape, int)
        expected[:, :5], expected[2, 6] = 1, 2
        np.testing.assert_array_equal(label_instances(RING, fill_holes=True), expected)

    def test_stay_by_default(self):
        np.testing.assert_array_equal(label_instances(RING) > 0, RING > 0)

    def test_open_to_the_border_are_none(self):
        bay = RING[1:]
        np.testing.assert_array_equal(label_instances(bay, fill_holes=True), label_instances(bay))

    @pytest.mark.parametrize(("connectivity", "filled"), [(2, 1), (1, 0)], ids=["corners", "faces"])
    def test_are_closed_at_a_corner_if_components_join_over_corners(self, connectivity, filled):
        diamond = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=float)
        assert label_instances(diamond, connectivity=connectivity, fill_holes=True)[1, 1] == filled

    def test_are_cavities_in_3d(self):
        box = np.ones((5, 5, 5))
        box[2, 2, 2] = 0
        tunnel = np.ones((5, 5, 5))
        tunnel[:, 2, 2] = 0
        assert label_instances(box, fill_holes=True)[2, 2, 2] == 1
        assert label_instances(tunnel, fill_holes=True)[2, 2, 2] == 0

    def test_in_a_volume_of_one_slice_are_those_of_the_plane(self):
        plane = label_instances(RING, fill_holes=True)
        np.testing.assert_array_equal(label_instances(RING[None], fill_holes=True)[0], plane)
        np.testing.assert_array_equal(label_instances(RING[:, :, None], fill_holes=True)[:, :, 0], plane)


@pytest.mark.parametrize("ndim", [2, 3])
class TestSplitByDistance:
    def test_parts_two_balls_at_their_neck(self, ndim):
        left, right, probability = two_balls(ndim)
        assert label_instances(probability).max() == 1
        instances = label_instances(probability, split_distance=5)
        first, second = np.unique(instances[left & ~right]), np.unique(instances[right & ~left])
        assert (first.size, second.size, numbers(instances)) == (1, 1, [0, 1, 2])
        np.testing.assert_array_equal(instances > 0, probability > 0.5)

    def test_keeps_one_ball_whole(self, ndim):
        left, _, _ = two_balls(ndim)
        np.testing.assert_array_equal(label_instances(left.astype(float), split_distance=5), left)

    def test_keeps_balls_whole_whose_centres_are_nearer(self, ndim):
        *_, probability = two_balls(ndim)
        assert label_instances(probability, split_distance=14).max() == 1

    def test_keeps_an_image_without_background_whole(self, ndim):
        np.testing.assert_array_equal(label_instances(np.ones((6,) * ndim), split_distance=1), 1)


def test_split_by_distance_works_in_a_volume_of_one_slice():
    *_, probability = two_balls(2)
    plane = label_instances(probability, split_distance=5)
    assert plane.max() == 2
    assert label_instances(probability[None], split_distance=5).max() == 2


class TestSplitByProbability:
    def test_parts_at_the_pass_between_two_peaks(self):
        expected = [[1, 1, 1, 2, 2, 2, 2, 0, 3, 3]]  # the lowest voxel goes to the higher side, 0.8 over 0.7
        np.testing.assert_array_equal(label_instances(BUMPS, split_probability=0.75), expected)

    def test_keeps_components_without_a_marker(self):
        low = BUMPS * 0.95
        np.testing.assert_array_equal(label_instances(low, split_probability=0.9), label_instances(low))

    def test_keeps_every_foreground_voxel(self):
        rng = np.random.default_rng(0)
        smooth = ndimage.gaussian_filter(rng.random((64, 64)), 2)
        probability = (smooth - smooth.min()) / np.ptp(smooth)
        for connectivity in (1, 2):
            options = {"connectivity": connectivity}
            whole = label_instances(probability, **options)
            split = label_instances(probability, split_probability=0.75, **options)
            np.testing.assert_array_equal(split > 0, probability > 0.5)
            assert split.max() > whole.max()
            assert all(np.unique(whole[split == i]).size == 1 for i in range(1, split.max() + 1))


class TestMinSize:
    def test_drops_smaller_instances_and_numbers_the_rest_without_gaps(self):
        probability = np.array([[1, 1, 0, 1, 0, 1, 1, 1]], dtype=float)
        np.testing.assert_array_equal(label_instances(probability, min_size=2), [[1, 1, 0, 0, 0, 2, 2, 2]])

    def test_counts_the_filled_instance(self):
        assert label_instances(RING, fill_holes=True, min_size=25).sum() == 25

    def test_counts_the_parts_after_splitting(self):
        instances = label_instances(BUMPS, split_probability=0.75, min_size=4)
        np.testing.assert_array_equal(instances, [[0, 0, 0, 1, 1, 1, 1, 0, 0, 0]])


OPTIONS = [{}, {"fill_holes": True}, {"split_distance": 2}, {"split_probability": 0.8}, {"min_size": 1}]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: next(iter(options), "plain"))
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (1, 7), (4, 5), (1, 1, 1), (1, 4, 5), (3, 1, 4)], ids=str)
def test_empty_and_full_maps_of_any_shape_have_none_and_one_instance(shape, options):
    np.testing.assert_array_equal(label_instances(np.zeros(shape), **options), np.zeros(shape))
    np.testing.assert_array_equal(label_instances(np.ones(shape), **options), np.ones(shape))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.bool])
def test_a_tensor_of_any_precision_gives_an_int32_tensor(dtype):
    instances = label_instances(torch.tensor([[1, 0, 1]], dtype=dtype))
    assert type(instances) is torch.Tensor
    assert instances.dtype == torch.int32
    assert instances.tolist() == [[1, 0, 2]]


def test_a_tensor_with_gradient_is_read_and_not_changed():
    probability = torch.tensor([[0.9, 0.1]], requires_grad=True)
    assert label_instances(probability).tolist() == [[1, 0]]
    assert probability.tolist() == torch.tensor([[0.9, 0.1]]).tolist()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_map_on_a_gpu_gives_instances_there():
    assert label_instances(torch.ones(2, 2, device="cuda")).device.type == "cuda"


@pytest.mark.parametrize(
    ("probability", "message"),
    [
        pytest.param(np.array([[-3.0, 4.0]]), r"from -3 to 4\. Apply softmax first", id="logits"),
        pytest.param(np.array([[0, 255]], np.uint8), "Apply softmax first", id="bytes"),
        pytest.param(np.array([[0.1, np.nan]]), "must not hold NaN; 1 of 2 voxels do", id="NaN"),
        pytest.param(np.ones(3), r"2 or 3 spatial axes and no channel; its shape is \(3,\)", id="1D"),
        pytest.param(np.ones((1, 2, 2, 2)), "no channel", id="4D"),
    ],
)
def test_what_is_no_probability_map_is_refused(probability, message):
    for image in (probability, torch.from_numpy(probability)):
        with pytest.raises(ValueError, match=message):
            label_instances(image)


def test_rounding_may_leave_the_range_a_little():
    np.testing.assert_array_equal(label_instances(np.array([[-0.0009, 1.0009]])), [[0, 1]])


BAD_OPTIONS = [
    pytest.param({"threshold": 1.0}, r"threshold must lie in \[0, 1\)", id="threshold"),
    pytest.param({"connectivity": 0}, "connectivity must be 1", id="no connectivity"),
    pytest.param({"min_size": -1}, "min_size counts voxels", id="negative size"),
    pytest.param({"split_distance": 0}, "split_distance must be at least 1", id="distance"),
    pytest.param({"split_probability": 0.4}, "between threshold 0.5 and 1; it is 0.4", id="marker threshold"),
    pytest.param({"split_distance": 3, "split_probability": 0.9}, "give one of them", id="both splits"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_options_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        label_instances(DIAGONAL, **options)
    with pytest.raises(ValueError, match=message):
        LabelInstances(**options)
    with pytest.raises(ValueError, match=message):
        LabelInstancesd("pred", **options)


def test_more_connectivity_than_axes_is_refused():
    with pytest.raises(ValueError, match="at most 2 in this map; it is 3"):
        label_instances(DIAGONAL, connectivity=3)


def softmax_of(foreground):
    return np.stack([1 - foreground, foreground])


class TestTransform:
    def test_takes_the_only_channel_or_the_foreground_channel(self):
        expected = label_instances(RING)[None]
        np.testing.assert_array_equal(LabelInstances()(RING[None]), expected)
        np.testing.assert_array_equal(LabelInstances()(softmax_of(RING)), expected)
        np.testing.assert_array_equal(LabelInstances(foreground_channel=0)(softmax_of(1 - RING)), expected)

    def test_passes_every_option_on(self):
        *_, probability = two_balls(2)
        probability[0, 0] = 1
        options = {"threshold": 0.3, "connectivity": 1, "min_size": 3, "fill_holes": True, "split_distance": 5}
        expected = label_instances(probability, **options)[None]
        np.testing.assert_array_equal(LabelInstances(**options)(probability[None]), expected)
        np.testing.assert_array_equal(LabelInstancesd("a", **options)({"a": probability[None]})["a"], expected)
        options = {"split_probability": 0.75}
        expected = label_instances(BUMPS, **options)[None]
        np.testing.assert_array_equal(LabelInstances(**options)(BUMPS[None]), expected)
        np.testing.assert_array_equal(LabelInstancesd("a", **options)({"a": BUMPS[None]})["a"], expected)

    def test_refuses_a_channel_that_is_not_there(self):
        with pytest.raises(ValueError, match="foreground_channel 2 is none of the image's 2 channels"):
            LabelInstances(foreground_channel=2)(softmax_of(RING))

    @pytest.mark.parametrize("channels", [1, 2])
    def test_keeps_kind_and_meta_data(self, channels):
        affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))
        image = MetaTensor(softmax_of(RING)[-channels:], affine=affine, meta={"filename_or_obj": "cells.tif"})
        instances = LabelInstances()(image)
        assert isinstance(instances, MetaTensor)
        assert instances.dtype == torch.int32
        assert instances.shape == (1, *RING.shape)
        assert torch.equal(instances.affine, affine)
        assert instances.meta["filename_or_obj"] == "cells.tif"

    def test_leaves_the_input_as_it_was(self):
        image = MetaTensor(softmax_of(RING))
        LabelInstances(fill_holes=True)(image)
        assert image.dtype == torch.float64
        np.testing.assert_array_equal(image, softmax_of(RING))


class TestDictionaryTransform:
    def test_labels_its_keys_and_leaves_the_others(self):
        data = {"pred": softmax_of(RING), "image": RING}
        result = LabelInstancesd("pred", min_size=2)(data)
        np.testing.assert_array_equal(result["pred"], label_instances(RING, min_size=2)[None])
        assert result["image"] is RING
        assert data["pred"].shape == (2, *RING.shape)

    def test_passes_over_missing_keys_only_if_allowed(self):
        assert LabelInstancesd(["pred", "gone"], allow_missing_keys=True)({"pred": RING[None]}).keys() == {"pred"}
        with pytest.raises(KeyError, match="gone"):
            LabelInstancesd(["pred", "gone"])({"pred": RING[None]})

    def test_instances_turn_back_with_the_image(self):
        turn = Compose([Flipd("image", spatial_axis=0)])
        probability = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
        turned = turn({"image": MetaTensor(probability[None])})
        data = LabelInstancesd("pred")({**turned, "pred": turned["image"].clone()})
        back = Invertd("pred", transform=turn, orig_keys="image", nearest_interp=True, to_tensor=True)(data)["pred"]
        assert back.tolist() == [[[2, 0], [0, 0], [1, 1]]]
