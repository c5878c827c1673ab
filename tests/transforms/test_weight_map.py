import math

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scipy.ndimage import distance_transform_edt

from overtile.transforms.gap import separated_instances
from overtile.transforms.weight_map import (
    SeparationWeights,
    SeparationWeightsd,
    separation_weights,
    separation_weights_2019,
)

EXACT = 1e-5  # terms below 1e-6 are left out; the rest is float32 rounding of weights up to 60


def ellipses(shape, count, radius, seed=0):
    """A random instance map; later instances do not cover earlier ones, so many touch or lie in parts."""
    rng = np.random.default_rng(seed)
    label = np.zeros(shape, dtype=np.int32)
    for number in range(1, count + 1):
        centre, radii = rng.uniform(0, shape), rng.uniform(radius / 2, radius, len(shape))
        grid = np.ogrid[tuple(slice(size) for size in shape)]
        inside = sum(((x - c) / r) ** 2 for x, c, r in zip(grid, centre, radii, strict=True)) <= 1
        label[inside & (label == 0)] = number
    return label


def c_and_dots():
    """A C, the dot that it encloses, an instance of two parts, and a diagonal contact."""
    label = np.zeros((40, 40), dtype=np.int32)
    label[5:25, 5:25], label[8:22, 8:25], label[14:16, 14:16] = 1, 0, 2
    label[30:33, 2:5] = label[30:33, 33:36] = 3
    label[33:36, 36:38] = 4
    return label


def all_distances(label, spacing):
    """Slow twin: one distance transform of the whole image per instance, sorted; then two rows of infinity."""
    instances = [distance_transform_edt(label != i, spacing) for i in np.unique(label[label > 0])]
    return np.sort(np.stack([*instances, *np.full((2, *label.shape), np.inf)]), axis=0)


def twin(label, w0=10, sigma=5, spacing=None):
    gapped = separated_instances(label)
    d1, d2 = all_distances(gapped, spacing)[:2]
    return 1 + np.where(gapped == 0, w0 * np.exp(-((d1 + d2) ** 2) / (2 * sigma**2)), 0)


def twin_2019(label, spacing=None):
    d1, d2 = all_distances(label, spacing)[:2]
    weight = 0.1 + 50 * np.exp(-((d1 + d2) ** 2) / (2 * 6**2)) + (1 - 0.1) * np.exp(-(d1**2) / (2 * 10**2))
    return np.where(separated_instances(label) > 0, 1, weight)


LABELS = [
    pytest.param(np.zeros((9, 8), np.int32), None, id="no cell"),
    pytest.param(ellipses((40, 50), 1, 9), None, id="one cell"),
    pytest.param(ellipses((60, 70), 2, 9), None, id="two cells"),
    pytest.param(ellipses((128, 100), 25, 9), None, id="many cells"),
    pytest.param(ellipses((64, 64), 90, 9), None, id="hardly any background"),
    pytest.param(ellipses((200, 30), 3, 6, seed=1), None, id="far apart"),
    pytest.param(np.kron([[1, 2], [3, 4]], np.ones((8, 8), int)), None, id="four touching squares up to the border"),
    pytest.param(c_and_dots(), None, id="non-convex and disconnected"),
    pytest.param(c_and_dots(), (0.5, 1.5), id="anisotropic pixels"),
    pytest.param(c_and_dots(), 0.25, id="small pixels"),
    pytest.param(ellipses((20, 30, 30), 12, 8), None, id="volume"),
    pytest.param(ellipses((12, 40, 40), 12, 8), (4, 1, 1.5), id="anisotropic volume"),
    pytest.param(np.where(ellipses((40, 40), 6, 8) > 0, ellipses((40, 40), 6, 8) * 10**8, 0), None, id="huge ids"),
]


@pytest.mark.parametrize(("label", "spacing"), LABELS)
def test_the_2015_weights_equal_one_distance_transform_per_cell(label, spacing):
    weight = separation_weights(label, class_weights=None, spacing=spacing)
    np.testing.assert_allclose(weight, twin(label, spacing=spacing), atol=EXACT)


@pytest.mark.parametrize(("label", "spacing"), LABELS)
def test_the_2019_weights_equal_one_distance_transform_per_cell(label, spacing):
    np.testing.assert_allclose(separation_weights_2019(label, spacing=spacing), twin_2019(label, spacing), atol=EXACT)


@pytest.mark.parametrize(("w0", "sigma"), [(10, 1), (1000, 3), (0.5, 12)])
def test_height_and_reach_may_be_chosen(w0, sigma):
    label = ellipses((60, 60), 8, 8)
    weight = separation_weights(label, w0, sigma, class_weights=None)
    np.testing.assert_allclose(weight, twin(label, w0, sigma), atol=EXACT, rtol=1e-6)


def test_a_gap_of_one_pixel_weighs_11_less_the_distance_to_both_sides():
    contact = np.repeat([1, 2], 3)[:, None] * np.ones((1, 5), int)
    weight = separation_weights(contact, class_weights=None)
    expected = 1 + 10 * math.exp(-((1 + 1) ** 2) / (2 * 5**2))  # 10.23
    np.testing.assert_allclose(weight[3], expected, rtol=1e-6)
    np.testing.assert_array_equal(np.delete(weight, 3, axis=0), 1)


def test_in_2019_the_gap_belongs_to_an_instance_so_its_distances_are_0_and_1():
    contact = np.array([[1, 2]])
    np.testing.assert_allclose(separation_weights_2019(contact), [[1, 0.1 + 50 * math.exp(-1 / 72) + 0.9]], rtol=1e-6)


def test_balanced_classes_get_the_same_sum_and_the_mean_is_1():
    label = ellipses((50, 50), 5, 8)
    weight, foreground = separation_weights(label, w0=0), separated_instances(label) > 0
    assert weight[foreground].sum() == pytest.approx(weight[~foreground].sum(), rel=1e-5)
    assert weight.mean() == pytest.approx(1, rel=1e-5)


def test_class_weights_are_background_then_foreground():
    label = np.array([[0, 0, 0, 1]])
    assert separation_weights(label, class_weights=(0.25, 3)).tolist() == [[0.25, 0.25, 0.25, 3]]
    assert separation_weights(label, class_weights="balanced").tolist() == [[np.float32(2 / 3)] * 3 + [2]]


@pytest.mark.parametrize("value", [0, 1], ids=["background alone", "one instance alone"])
def test_a_class_alone_weighs_1(value):
    assert separation_weights(np.full((3, 3), value)).tolist() == np.ones((3, 3)).tolist()


def test_no_height_means_no_distance_transform(monkeypatch):
    def forbidden(*_):
        raise AssertionError

    monkeypatch.setattr("overtile.transforms.weight_map.gap_width", forbidden)
    label = ellipses((30, 30), 4, 6)
    np.testing.assert_array_equal(separation_weights(label, w0=0, class_weights=None), 1)


@pytest.mark.parametrize("formula", [separation_weights, separation_weights_2019])
@pytest.mark.parametrize("ignore", [-1, 255])
def test_ignored_voxels_weigh_0_and_change_nothing_else(formula, ignore):
    label = ellipses((40, 40), 6, 8)
    partly = label.copy()
    partly[10:30, 5:9] = ignore
    without = np.where(partly == ignore, 0, partly)
    options = {"class_weights": None} if formula is separation_weights else {}
    expected = np.where(partly == ignore, 0, formula(without, **options))
    np.testing.assert_array_equal(formula(partly, ignore_label=ignore, **options), expected)


def test_ignored_voxels_do_not_count_in_the_balance():
    label = np.array([[0, 0, 0, 1, 255, 255, 255]])
    expected = [*separation_weights(label[:, :4])[0], 0, 0, 0]
    np.testing.assert_array_equal(separation_weights(label, ignore_label=255)[0], expected)


@pytest.mark.parametrize("formula", [separation_weights, separation_weights_2019])
class TestKinds:
    label = ellipses((3, 20, 24), 6, 7)

    def test_a_leading_channel_changes_nothing(self, formula):
        volume, image = formula(self.label), formula(self.label[0])
        np.testing.assert_array_equal(formula(self.label[None]), volume[None])
        np.testing.assert_array_equal(formula(self.label[:1]), image[None])

    def test_spacing_names_the_spatial_axes_with_or_without_a_channel(self, formula):
        image = formula(self.label[0], spacing=(2, 0.5))
        np.testing.assert_array_equal(formula(self.label[:1], spacing=(2, 0.5)), image[None])
        np.testing.assert_array_equal(formula(self.label[:1], spacing=(9, 2, 0.5)), image[None])
        np.testing.assert_array_equal(
            formula(self.label[None], spacing=(3, 2, 1)), formula(self.label, spacing=(3, 2, 1))[None]
        )

    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64])
    def test_every_dtype_of_whole_numbers_gives_the_same_float32(self, formula, dtype):
        weight = formula(self.label.astype(dtype))
        assert weight.dtype == np.float32
        np.testing.assert_array_equal(weight, formula(self.label))

    def test_a_mask_of_booleans_is_one_instance(self, formula):
        mask = self.label[0] > 0
        np.testing.assert_array_equal(formula(mask), formula(mask.astype(int)))

    def test_a_tensor_gives_a_tensor_and_meta_data_are_kept(self, formula):
        plain = formula(torch.from_numpy(self.label))
        assert type(plain) is torch.Tensor
        assert plain.dtype == torch.float32
        np.testing.assert_array_equal(plain.numpy(), formula(self.label))
        meta = formula(MetaTensor(self.label, meta={"name": "a"}))
        assert isinstance(meta, MetaTensor)
        assert meta.meta["name"] == "a"

    @pytest.mark.parametrize("spacing", [0, -1, math.nan, (1, 2), (1, 1, 0), (1, 1, 1, 1)])
    def test_a_spacing_that_does_not_fit_fails(self, formula, spacing):
        with pytest.raises(ValueError, match="spacing needs a size > 0 for each axis"):
            formula(self.label, spacing=spacing)

    @pytest.mark.parametrize("numbers", [{"w0": -1}, {"sigma": 0}, {"w0": math.inf}, {"sigma": math.nan}])
    def test_numbers_out_of_range_fail(self, formula, numbers):
        with pytest.raises(ValueError, match="w0 needs to be >= 0 and its sigma > 0"):
            formula(self.label, **numbers)


@pytest.mark.parametrize("class_weights", [(1,), (1, 2, 3), (1, -1), (1, math.nan), "equal"])
def test_class_weights_that_are_no_pair_fail(class_weights):
    with pytest.raises(ValueError, match="class_weights"):
        separation_weights(np.array([[0, 1]]), class_weights=class_weights)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_label_on_the_gpu_gives_weights_there():
    assert separation_weights(torch.ones((4, 4), device="cuda")).device.type == "cuda"


class TestDictionaryTransform:
    def test_it_writes_the_weights_and_separates_the_instances(self):
        label = np.array([[[1, 1, 2, 2]]], dtype=np.float32)
        image = np.zeros((1, 1, 4))
        out = SeparationWeightsd("label")({"label": label, "image": image})
        np.testing.assert_array_equal(out["weight"], separation_weights(label))
        np.testing.assert_array_equal(out["label"], separated_instances(label))
        assert out["image"] is image

    def test_weights_of_a_meta_tensor_have_its_meta_data(self):
        label = MetaTensor(np.array([[[1, 2]]]), meta={"filename_or_obj": "a.tif"})
        out = SeparationWeightsd("label", formula="2019")({"label": label})
        assert all(isinstance(out[key], MetaTensor) for key in ("label", "weight"))
        assert out["weight"].meta["filename_or_obj"] == "a.tif"
        assert out["weight"].dtype == torch.float32
        np.testing.assert_array_equal(out["weight"], separation_weights_2019(label))

    def test_ignored_voxels_stay_in_the_label(self):
        out = SeparationWeightsd("label", ignore_label=9)({"label": np.array([[[1, 9, 2]]])})
        assert out["label"].tolist() == [[[1, 9, 2]]]
        assert out["weight"].tolist() == [[[1, 0, 1]]]

    @pytest.mark.parametrize(("dims", "sizes"), [(2, (2, 0.5)), (3, (3, 2, 0.5))])
    def test_pixdim_reads_the_voxel_size_of_each_spatial_axis(self, dims, sizes):
        label = ellipses((6, 20, 24)[-dims:], 5, 7)[None]
        affine = np.diag([*sizes, *[7] * (3 - dims), 1])
        out = SeparationWeights(spacing="pixdim")(MetaTensor(label, affine=affine))
        np.testing.assert_array_equal(out, separation_weights(label, spacing=sizes))

    def test_pixdim_needs_a_meta_tensor(self):
        with pytest.raises(ValueError, match="'pixdim' for a MetaTensor"):
            SeparationWeights(spacing="pixdim")(np.array([[[1, 2]]]))

    def test_own_numbers_go_to_the_formula(self):
        label = ellipses((20, 20), 4, 6)[None]
        old = SeparationWeights(w0=3, sigma=2, class_weights=(1, 2), spacing=0.5)(label)
        np.testing.assert_array_equal(old, separation_weights(label, 3, 2, (1, 2), spacing=0.5))
        new = SeparationWeights("2019", w0=3, sigma=2)(label)
        np.testing.assert_array_equal(new, separation_weights_2019(label, 3, 2))

    def test_several_labels_get_one_weight_each_and_missing_ones_may_be_skipped(self):
        transform = SeparationWeightsd(["a", "b"], ["wa", "wb"], allow_missing_keys=True)
        assert set(transform({"b": np.ones((1, 2, 2))})) == {"b", "wb"}
        with pytest.raises(KeyError):
            SeparationWeightsd("label")({})

    @pytest.mark.parametrize("weight_key", ["weight", ["a", "weight"], ["weight", "weight"], "b"])
    def test_labels_cannot_share_a_weight_key(self, weight_key):
        with pytest.raises(ValueError, match="one new key per label"):
            SeparationWeightsd(["a", "b"], weight_key)

    @pytest.mark.parametrize("shape", [(4, 4), (2, 4, 4), (1, 1, 1, 4, 4)])
    def test_a_label_without_one_channel_fails(self, shape):
        with pytest.raises(ValueError, match="EnsureChannelFirstd"):
            SeparationWeightsd("label")({"label": np.zeros(shape)})

    @pytest.mark.parametrize(
        "options",
        [{"formula": "2016"}, {"formula": "2019", "class_weights": None}, {"class_weights": (1,)}, {"sigma": 0}],
        ids=str,
    )
    def test_options_that_make_no_sense_fail_when_it_is_built(self, options):
        with pytest.raises(ValueError, match=r"formula|class_weights|sigma"):
            SeparationWeightsd("label", **options)
