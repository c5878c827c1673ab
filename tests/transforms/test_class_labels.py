import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from overtile.transforms.class_labels import ClassWeightsd, balanced_weights, class_indices, class_weight_map


@pytest.mark.parametrize("counts", [(5, 5), (1, 99), (10, 0, 30), (0, 7), (3, 2, 1, 0)], ids=str)
def test_balanced_classes_get_equal_sums_that_add_up_to_the_number_of_voxels(counts):
    sums = np.array(counts) * balanced_weights(counts)
    present = np.count_nonzero(counts)
    np.testing.assert_allclose(sums, np.where(np.array(counts) > 0, sum(counts) / present, 0))


def test_without_labelled_voxels_every_class_weighs_0():
    assert balanced_weights([0, 0]).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("label", "options", "indices"),
    [
        pytest.param([0, 1, 2], {"num_classes": 3}, [0, 1, 2], id="indices"),
        pytest.param([0, 1, 1], {"num_classes": 2}, [0, 1, 1], id="binary"),
        pytest.param([0, 255, 255], {"num_classes": 2}, [0, 1, 1], id="255 is foreground"),
        pytest.param([255, 255], {"num_classes": 2}, [1, 1], id="255 alone is foreground"),
        pytest.param([0, 1, 255], {"num_classes": 2, "ignore_label": 255}, [0, 1, 0], id="255 is ignored"),
        pytest.param([0, 0, 255], {"num_classes": 2, "ignore_label": 255}, [0, 0, 0], id="255 is ignored alone"),
        pytest.param([0, 255], {"num_classes": 2, "class_values": (255, 0)}, [1, 0], id="dark foreground"),
        pytest.param([0, 2, 3], {"num_classes": 2, "class_values": (2, 0), "ignore_label": 3}, [1, 0, 0], id="Cicek"),
        pytest.param([-1, 7], {"num_classes": 2, "class_values": (7, -1)}, [1, 0], id="negative value"),
        pytest.param([0, -1, 1], {"num_classes": 2, "ignore_label": -1}, [0, 0, 1], id="negative is ignored"),
    ],
)
def test_values_become_indices(label, options, indices):
    assert class_indices(np.array(label), **options).tolist() == indices


def test_class_weight_maps_are_balanced_over_the_labelled_voxels_of_the_classes_present():
    label = np.array([[0, 0, 0, 2, 9]])
    weight = class_weight_map(label, num_classes=3, ignore_label=9)
    np.testing.assert_allclose(weight, [[4 / (2 * 3)] * 3 + [4 / (2 * 1), 0]], rtol=1e-6)


def test_class_weights_may_be_given_or_left_out():
    label = np.array([0, 2, 1, 9])
    assert class_weight_map(label, 3, class_weights=(1, 2, 0.5), ignore_label=9).tolist() == [1, 0.5, 2, 0]
    assert class_weight_map(label, 3, class_weights=None, ignore_label=9).tolist() == [1, 1, 1, 0]


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int16, np.int64, np.float32])
def test_indices_keep_the_dtype_and_weights_are_float32(dtype):
    label = np.array([[0, 1]]).astype(dtype)
    assert class_indices(label, 2).dtype == dtype
    assert class_weight_map(label, 2).dtype == np.float32
    assert class_indices(torch.from_numpy(label), 2).dtype == torch.from_numpy(label).dtype


def test_the_dictionary_transform_writes_indices_and_weights_of_the_labels_kind():
    label = np.array([[[0, 0, 255, 0]]], dtype=np.uint8)
    plain = ClassWeightsd("label", num_classes=2)({"label": label, "image": 1})
    assert plain["label"].tolist() == [[[0, 0, 1, 0]]]
    np.testing.assert_array_equal(plain["weight"], class_weight_map(label, 2))
    assert plain["image"] == 1
    meta = ClassWeightsd("label", num_classes=2)({"label": MetaTensor(label, meta={"name": "a"})})
    for key in ("label", "weight"):
        assert isinstance(meta[key], MetaTensor)
        assert meta[key].meta["name"] == "a"
        np.testing.assert_array_equal(meta[key], plain[key])


def test_several_labels_get_one_weight_each_and_missing_ones_may_be_skipped():
    transform = ClassWeightsd(["a", "b"], ["wa", "wb"], num_classes=2, allow_missing_keys=True)
    assert set(transform({"b": np.zeros((1, 2, 2))})) == {"b", "wb"}
    with pytest.raises(ValueError, match="one new key per label"):
        ClassWeightsd(["a", "b"], num_classes=2)


def test_another_value_fails_with_the_values_the_file_and_the_remedy():
    label = MetaTensor([[[0, 7, 128]]], meta={"filename_or_obj": "mask.png"})
    with pytest.raises(ValueError, match=r"label mask.png may hold \(0, 1\) or \(0, 255\).* 7, 128: .*class_values"):
        ClassWeightsd("label", num_classes=2)({"label": label})


@pytest.mark.parametrize(
    ("label", "options", "words"),
    [
        pytest.param([0, 255], {"num_classes": 3}, "holds 255", id="255 of three classes"),
        pytest.param([0, 1, 255], {"num_classes": 2}, "holds 1:", id="neither spelling"),
        pytest.param([0, 5], {"num_classes": 2, "class_values": (0, 1)}, r"may hold \(0, 1\), but holds 5", id="given"),
        pytest.param([0, 0.5], {"num_classes": 2}, "must hold integers, got 0.5", id="fraction"),
        pytest.param([0], {"num_classes": 1}, "at least 2", id="one class"),
        pytest.param([0], {"num_classes": 3, "class_values": (0, 1)}, "3 different values", id="too few"),
        pytest.param([0], {"num_classes": 2, "class_values": (1, 1)}, "2 different values", id="twice"),
        pytest.param([0], {"num_classes": 2, "ignore_label": 1}, "also the value of a class", id="ignored class"),
    ],
)
def test_what_is_no_class_map_fails_with_its_reason(label, options, words):
    with pytest.raises(ValueError, match=words):
        class_indices(np.array(label), **options)


@pytest.mark.parametrize(
    "options",
    [{"num_classes": 1}, {"num_classes": 2, "class_weights": (1, 2, 3)}, {"num_classes": 2, "class_weights": "equal"}],
    ids=str,
)
def test_options_that_make_no_sense_fail_when_the_transform_is_built(options):
    with pytest.raises(ValueError, match=r"num_classes|class_weights"):
        ClassWeightsd("label", **options)


@pytest.mark.parametrize("shape", [(4, 4), (3, 4, 4)], ids=["no channel", "one-hot"])
def test_a_label_without_one_channel_fails(shape):
    with pytest.raises(ValueError, match="one channel of numbers instead of one-hot"):
        ClassWeightsd("label", num_classes=2)({"label": np.zeros(shape)})
