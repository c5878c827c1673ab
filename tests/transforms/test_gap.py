import itertools

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.data import MetaTensor

from overtile.transforms.gap import InstanceMap, separated_instances

SHAPES = st.one_of(
    arrays.array_shapes(min_dims=2, max_dims=2, max_side=9), arrays.array_shapes(min_dims=3, max_dims=3, max_side=5)
)
INSTANCE_MAPS = arrays.arrays(np.int16, SHAPES, elements=st.integers(0, 4))


def gap_by_loops(label, ignore=None):
    """Slow twin: every voxel looks at all its neighbours and yields to a smaller number."""
    out = label.copy()
    for here in np.ndindex(label.shape):
        for offset in itertools.product((-1, 0, 1), repeat=label.ndim):
            there = tuple(np.add(here, offset))
            if all(0 <= x < size for x, size in zip(there, label.shape, strict=True)):
                pair = label[here], label[there]
                if 0 not in pair and ignore not in pair and pair[0] > pair[1]:
                    out[here] = 0
    return out


@settings(max_examples=60, deadline=None)
@given(INSTANCE_MAPS)
def test_the_gap_equals_a_loop_over_voxels_and_neighbours(label):
    np.testing.assert_array_equal(separated_instances(label), gap_by_loops(label))


@settings(max_examples=60, deadline=None)
@given(INSTANCE_MAPS)
def test_after_the_gap_no_two_instances_touch_and_nothing_else_changed(label):
    out = separated_instances(label)
    assert ((out == label) | (out == 0)).all()
    np.testing.assert_array_equal(gap_by_loops(out), out)
    np.testing.assert_array_equal(separated_instances(out), out)


@settings(max_examples=30, deadline=None)
@given(INSTANCE_MAPS)
def test_ignored_voxels_neither_cause_nor_get_a_gap(label):
    out = separated_instances(label, ignore_label=2)
    np.testing.assert_array_equal(out, gap_by_loops(label, ignore=2))
    np.testing.assert_array_equal(out == 2, label == 2)


def test_a_contact_opens_by_one_voxel_in_every_direction():
    rows = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]])
    assert separated_instances(rows).tolist() == [[1] * 4, [1] * 4, [0] * 4, [2] * 4]


@settings(max_examples=30, deadline=None)
@given(INSTANCE_MAPS)
def test_the_gap_does_not_depend_on_how_the_image_lies(label):
    np.testing.assert_array_equal(separated_instances(label.T), separated_instances(label).T)
    np.testing.assert_array_equal(separated_instances(label[::-1]), separated_instances(label)[::-1])


def test_a_volume_of_one_slice_is_an_image_and_a_leading_channel_changes_nothing():
    label = np.random.default_rng(0).integers(0, 4, (3, 6, 5))
    np.testing.assert_array_equal(separated_instances(label[None])[0], separated_instances(label))
    np.testing.assert_array_equal(separated_instances(label[:1])[0], separated_instances(label[0]))


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.uint32, np.int64, np.float32, np.float64])
def test_the_result_has_the_dtype_of_the_label_and_leaves_it_alone(dtype):
    label = np.array([[1, 1, 2], [3, 0, 1]]).astype(dtype)
    before = label.copy()
    out = separated_instances(label)
    assert out.dtype == dtype
    np.testing.assert_array_equal(out, gap_by_loops(before))
    np.testing.assert_array_equal(label, before)


def test_a_tensor_stays_a_tensor_and_keeps_its_meta_data():
    label = np.array([[1, 2], [1, 2]])
    plain = separated_instances(torch.from_numpy(label))
    assert type(plain) is torch.Tensor
    meta = separated_instances(MetaTensor(label.astype(np.float32), affine=np.diag([2, 3, 1, 1]), meta={"name": "a"}))
    assert isinstance(meta, MetaTensor)
    assert meta.dtype == torch.float32
    assert meta.meta["name"] == "a"
    assert meta.affine[0, 0] == 2
    assert meta.tolist() == plain.tolist() == [[1, 0], [1, 0]]


def test_ids_beyond_any_memory_are_told_apart():
    label = np.array([[2**31 - 1, 2**31 - 1, 0, 2**62, 2**62 + 1]])
    assert separated_instances(label).tolist() == [[2**31 - 1, 2**31 - 1, 0, 2**62, 0]]
    assert InstanceMap.read(label, None, None).ids.tolist() == [[1, 1, 0, 2, 3]]


@pytest.mark.parametrize(
    ("label", "words"),
    [
        pytest.param(np.array([[0, 1.5]]), "must hold integers, got 1.5", id="fraction"),
        pytest.param(np.array([[0, np.nan]]), "must hold integers, got nan", id="nan"),
        pytest.param(np.array([[0, 1j]]), "must hold integers, got dtype complex128", id="complex"),
        pytest.param(np.array([[0, -1]]), "got -1: .*ignore_label", id="negative"),
        pytest.param(np.array([0, 1]), r"shape \(H, W\)", id="one axis"),
        pytest.param(np.zeros((2, 3, 4, 5), int), r"channel of one, got \(2, 3, 4, 5\)", id="two channels"),
        pytest.param(MetaTensor([[0.5]], meta={"filename_or_obj": "cells.tif"}), "label cells.tif must", id="file"),
    ],
)
def test_what_is_no_instance_map_fails_with_its_reason(label, words):
    with pytest.raises(ValueError, match=words):
        separated_instances(label)


def test_the_background_cannot_be_ignored():
    with pytest.raises(ValueError, match="ignore_label 0 is the background"):
        separated_instances(np.array([[0, 1]]), ignore_label=0)
