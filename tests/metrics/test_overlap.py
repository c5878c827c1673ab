from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from overtile.metrics import OverlapTable, overlap_table

HUGE = 2**63 + 5  # beyond int64, and beyond what float64 tells from its neighbours


def entries(table: OverlapTable) -> dict[tuple[int, int], int]:
    return {(int(t), int(p)): int(n) for t, p, n in zip(table.truth, table.prediction, table.voxels, strict=True)}


@given(st.data(), array_shapes(max_dims=3, max_side=6))
def test_table_counts_every_voxel_as_a_python_counter_does(data, shape):
    truth, prediction = (data.draw(arrays(np.int32, shape, elements=st.integers(0, 4))) for _ in range(2))
    counts = Counter(zip(truth.ravel().tolist(), prediction.ravel().tolist(), strict=True))
    assert entries(overlap_table(truth, prediction)) == counts


def test_ids_may_be_huge_and_sparse():
    truth = np.array([0, HUGE, HUGE + 1, HUGE + 1], dtype=np.uint64)
    prediction = np.array([0, 10**12, 10**12, 7])
    assert entries(overlap_table(truth, prediction)) == {
        (0, 0): 1,
        (HUGE, 10**12): 1,
        (HUGE + 1, 7): 1,
        (HUGE + 1, 10**12): 1,
    }


def test_memory_order_of_the_arrays_does_not_matter():
    truth = np.arange(12).reshape(3, 4) % 5
    prediction = truth // 2
    assert entries(overlap_table(np.asfortranarray(truth), prediction)) == entries(overlap_table(truth, prediction))


def test_sizes_and_iou_are_those_of_the_whole_objects():
    table = overlap_table([[1, 1, 1, 0], [0, 0, 2, 2]], [[4, 4, 0, 0], [4, 4, 4, 0]])
    pair = np.flatnonzero((table.truth == 1) & (table.prediction == 4)).item()
    assert (table.voxels[pair], table.truth_sizes[pair], table.prediction_sizes[pair]) == (2, 3, 5)
    assert table.iou[pair] == 2 / 6


def test_an_image_without_voxels_has_an_empty_table():
    assert entries(overlap_table(np.zeros((0, 3), int), np.zeros((0, 3), int))) == {}


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float32])
def test_masks_and_whole_floats_are_label_images_too(dtype):
    assert entries(overlap_table(np.array([0, 1, 1], dtype), [0, 0, 1])) == {(0, 0): 1, (1, 0): 1, (1, 1): 1}


@pytest.mark.parametrize(
    ("truth", "prediction", "error", "message"),
    [
        pytest.param([0, 1], [0, 1, 2], ValueError, r"one shape; they have \(2,\) and \(3,\)", id="unequal shapes"),
        pytest.param([[0, 1]], [0, 1], ValueError, "one shape", id="no broadcasting"),
        pytest.param([0, 0.5], [0, 1], ValueError, "truth must hold whole-number ids", id="fraction"),
        pytest.param([0, 1], [0, np.nan], ValueError, "prediction must hold whole-number ids", id="NaN"),
        pytest.param([0, 1], [0, np.inf], ValueError, "prediction must hold whole-number ids", id="infinity"),
        pytest.param([0, -1], [0, 1], ValueError, "truth must not be negative; -1 came", id="negative"),
        pytest.param(["a"], [1], TypeError, "label image of integers", id="text"),
    ],
)
def test_what_is_no_pair_of_label_images_is_refused(truth, prediction, error, message):
    with pytest.raises(error, match=message):
        overlap_table(np.array(truth), np.array(prediction))
