import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.data import MetaTensor

from overtile.transforms import SeparationWeightsd
from overtile.transforms.sparse import KeepSlices, KeepSlicesd, slice_positions

KIDNEYS = [(248, 244, 64), (245, 244, 56), (246, 244, 59)]  # x, y, z of the three samples, Cicek 2016, section 3


def kept_fraction(shape, slices):
    label = np.zeros((1, *shape), dtype=np.uint8)
    return np.mean(KeepSlices(slices, ignore_label=3)(label) != 3)


@pytest.mark.parametrize(
    ("slices", "percent"), [((1, 1, 1), 2.5), ((2, 2, 1), 3.3), ((3, 3, 2), 5.7), ((5, 5, 3), 8.9)], ids=str
)
def test_the_kidneys_keep_the_share_of_voxels_that_the_paper_states(slices, percent):
    mean = np.mean([kept_fraction(shape, slices) for shape in KIDNEYS])
    assert round(100 * mean, 1) == percent  # Table 2 of arXiv:1606.06650


@given(st.lists(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n))), min_size=2, max_size=3))
def test_the_share_kept_is_one_minus_the_product_of_the_shares_left_out(axes):
    shape, slices = zip(*axes, strict=True)
    if any(slices):
        expected = 1 - np.prod([1 - n / size for size, n in axes])
        assert kept_fraction(shape, slices) == pytest.approx(expected)


@given(st.integers(1, 200), st.data())
def test_positions_lie_each_in_the_middle_of_its_part(size, data):
    count = data.draw(st.integers(1, size))
    positions = slice_positions(size, count)
    middles = (np.arange(count) + 0.5) * size / count - 0.5  # in voxel centres
    assert np.abs(np.subtract(positions, middles)).max() <= 0.5 + 1e-9
    assert len(set(positions)) == count


@given(st.integers(1, 200), st.data())
def test_drawn_positions_lie_one_in_each_part(size, data):
    count = data.draw(st.integers(1, size))
    positions = slice_positions(size, count, np.random.default_rng(data.draw(st.integers(0, 9))))
    for part, position in enumerate(positions):
        assert part * size // count <= position < (part + 1) * size // count


def test_drawn_positions_are_drawn_from_the_whole_axis():
    random = np.random.default_rng(0)
    assert {slice_positions(6, 1, random)[0] for _ in range(200)} == set(range(6))
    assert {tuple(slice_positions(6, 2, random)) for _ in range(400)} == {(i, j) for i in (0, 1, 2) for j in (3, 4, 5)}


def test_every_volume_has_drawn_slices_of_its_own_and_always_the_same():
    keep = KeepSlices((1, 1, 1), 255, "drawn")
    volumes = np.random.default_rng(0).integers(0, 3, (20, 1, 8, 9, 10), dtype=np.uint8)
    kept = [keep(volume) for volume in volumes]
    assert all(np.array_equal(keep(volume), again) for volume, again in zip(volumes, kept, strict=True))
    assert all(
        np.array_equal(keep(torch.from_numpy(volume)), again) for volume, again in zip(volumes, kept, strict=True)
    )
    assert len({(again == 255).tobytes() for again in kept}) > 15
    for volume, again in zip(volumes, kept, strict=True):
        on = again != 255
        assert np.mean(~on) == pytest.approx((7 * 8 * 9) / (8 * 9 * 10))
        assert np.array_equal(again[on], volume[on])


def test_an_unknown_way_to_place_slices_is_refused():
    with pytest.raises(ValueError, match="positions must be 'even' or 'drawn', got 'random'"):
        KeepSlices((1, 1), 3, "random")


def test_every_slice_of_an_axis_keeps_the_whole_label():
    label = np.arange(24).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(KeepSlices((0, 3, 0), ignore_label=99)(label), label)


def test_labels_stay_on_the_slices_of_all_axes_and_nowhere_else():
    label = np.arange(1, 61, dtype=np.uint8).reshape(1, 3, 4, 5)
    kept = KeepSlices((1, 0, 1), ignore_label=255)(label)
    for z, y, x in np.ndindex(3, 4, 5):
        assert kept[0, z, y, x] == (label[0, z, y, x] if z == 1 or x == 2 else 255)


def test_in_2d_slices_are_rows_and_columns():
    kept = KeepSlices((1, 0), ignore_label=7)(np.ones((1, 3, 2), dtype=int))
    assert kept.tolist() == [[[7, 7], [1, 1], [7, 7]]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32])
def test_kind_dtype_and_meta_data_are_kept(dtype):
    label = MetaTensor(torch.ones((1, 3, 3), dtype=dtype), meta={"filename_or_obj": "kidney.tif"})
    kept = KeepSlices((1, 0), ignore_label=3)(label)
    assert isinstance(kept, MetaTensor)
    assert kept.dtype == dtype
    assert kept.meta["filename_or_obj"] == "kidney.tif"
    assert kept.tolist() == [[[3, 3, 3], [1, 1, 1], [3, 3, 3]]]
    assert (label == 1).all()


def test_the_weights_that_follow_are_0_off_the_slices():
    cells = np.zeros((1, 6, 7, 8), dtype=np.uint8)
    cells[0, 1:5, 1:6, 1:4], cells[0, 1:5, 1:6, 4:7] = 1, 2
    sparse = KeepSlicesd("label", (0, 0, 2), ignore_label=255)({"label": cells})
    weight = SeparationWeightsd("label", ignore_label=255)(sparse)["weight"]
    np.testing.assert_array_equal(np.flatnonzero(np.asarray(weight).any(axis=(0, 1, 2))), [2, 6])


@pytest.mark.parametrize(
    ("slices", "ignore_label", "message"),
    [
        pytest.param((0, 0, 0), 3, "at least one in all", id="none"),
        pytest.param((), 3, "at least one in all", id="no axes"),
        pytest.param((1, -1), 3, "at least one in all", id="negative"),
        pytest.param((1, 1), 0, "0 is the background", id="background"),
    ],
)
def test_options_out_of_range_are_refused_at_once(slices, ignore_label, message):
    with pytest.raises(ValueError, match=message):
        KeepSlices(slices, ignore_label)
    with pytest.raises(ValueError, match=message):
        KeepSlicesd("label", slices, ignore_label)


@pytest.mark.parametrize(
    ("dtype", "ignore_label"), [("uint8", 256), ("uint8", -1), ("bool", 2), ("float32", 2**24 + 1)], ids=str
)
def test_an_ignore_label_that_the_dtype_does_not_hold_is_refused(dtype, ignore_label):
    label = np.zeros((1, 4, 4), dtype=dtype)
    for image in (label, torch.from_numpy(label)):
        with pytest.raises(ValueError, match=f"ignore_label {ignore_label} does not fit into label of dtype {dtype}"):
            KeepSlices((1, 1), ignore_label)(image)


def test_a_label_with_other_axes_or_too_few_voxels_is_refused():
    with pytest.raises(ValueError, match=r"one number for each spatial axis, and label has shape \(1, 4, 4\)"):
        KeepSlices((1, 1, 1), 3)(np.zeros((1, 4, 4)))
    with pytest.raises(ValueError, match="an axis of 4 voxels has 0 to 4 slices to keep; slices asks for 5"):
        KeepSlices((1, 5), 3)(np.zeros((1, 4, 4)))


def test_missing_keys_are_passed_over_only_if_allowed():
    data = {"image": np.zeros((1, 4, 4))}
    assert KeepSlicesd("label", (1, 1), 3, allow_missing_keys=True)(data) == data
    with pytest.raises(KeyError, match="label"):
        KeepSlicesd("label", (1, 1), 3)(data)


def test_without_a_value_to_ignore_the_remedy_is_named():
    with pytest.raises(ValueError, match="give ignore_label, for example 255"):
        KeepSlices((1, 1), ignore_label=None)
