import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Activationsd, Compose, NormalizeIntensityd

from overtile.metrics import class_dice
from overtile.transforms import DenseCRFd, LabelInstancesd, dense_crf

SHAPES = [(30, 40), (10, 12, 14)]
needs_pydensecrf = pytest.mark.skipif(find_spec("pydensecrf") is None, reason="needs pydensecrf2, the extra crf")


def two_regions(shape, seed=0):
    """A disc or ball on a darker ground, a noisy image of it, and a noisy, blind guess of its probability."""
    random = np.random.default_rng(seed)
    centre = np.array(shape)[(...,) + (None,) * len(shape)] / 2
    truth = np.linalg.norm(np.indices(shape) - centre, axis=0) < min(shape) / 3
    image = (truth + 0.1 * random.standard_normal(shape))[None]
    image = (image - image.mean()) / image.std()
    foreground = np.clip(np.where(truth, 0.65, 0.35) + 0.2 * random.standard_normal(shape), 0.02, 0.98)
    return truth, image, np.stack([1 - foreground, foreground])


def mean_field(p, image, theta_alpha, theta_beta, theta_gamma, w1, w2, iterations):
    """The slow twin: every pair of voxels, as in algorithm 1 of arXiv:1210.5644 with normalised kernels."""
    xy = np.indices(p.shape[1:]).reshape(p.ndim - 1, -1)
    shape = (-1, 1)
    alpha, gamma = np.reshape(theta_alpha, shape), np.reshape(theta_gamma, shape)
    kernels = []
    for features in (np.concatenate([xy / alpha, image.reshape(len(image), -1) / theta_beta]), xy / gamma):
        kernel = np.exp(-((features[:, :, None] - features[:, None]) ** 2).sum(axis=0) / 2)
        norm = 1 / np.sqrt(kernel.sum(axis=0))
        kernels.append(norm[:, None] * kernel * norm)
    unary = np.log(p).reshape(len(p), -1)
    q = p.reshape(len(p), -1)
    for _ in range(iterations):
        energy = np.exp(unary + w1 * q @ kernels[0] + w2 * q @ kernels[1])
        q = energy / energy.sum(axis=0)
    return q.reshape(p.shape)


def dice(truth, p):
    return class_dice(truth, p.argmax(axis=0), 2)[0]


@needs_pydensecrf
class TestDenseCRF:
    @pytest.mark.parametrize("shape", [(20, 24), (8, 9, 10)], ids=str)
    @pytest.mark.parametrize(("w1", "w2"), [(3.0, 0.0), (0.0, 3.0), (3.0, 1.0)])
    def test_is_the_mean_field_over_all_pairs_of_voxels(self, shape, w1, w2):
        _, image, p = two_regions(shape)
        alpha = (5.0, 4.0, 6.0)[: len(shape)]  # a width for each axis
        options = {"theta_alpha": alpha, "theta_beta": 0.3, "theta_gamma": 1.5, "w1": w1, "w2": w2, "iterations": 5}
        expected = mean_field(p, image, **options)
        refined = dense_crf(p, image, **options)
        assert np.abs(refined - expected).mean() < 0.006  # the lattice approximates the Gaussian
        assert np.abs(p - expected).mean() > 0.1

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_cleans_a_noisy_probability_along_the_edges_of_the_image(self, shape):
        truth, image, p = two_regions(shape)
        assert dice(truth, p) < 0.8
        assert dice(truth, dense_crf(p, image)) > 0.99

    def test_moves_a_border_to_the_edge_of_the_image(self):
        image = np.zeros((1, 20, 30))
        image[..., 15:] = 1
        foreground = np.full((20, 30), 0.1)
        foreground[:, 13:] = 0.7  # two voxels too far
        refined = dense_crf(np.stack([1 - foreground, foreground]), image)
        np.testing.assert_array_equal(refined[1] > 0.5, image[0] > 0.5)

    def test_does_not_look_at_the_image_without_the_appearance_kernel(self):
        _, image, p = two_regions(SHAPES[0])
        np.testing.assert_array_equal(dense_crf(p, image, w1=0), dense_crf(p, 0 * image, w1=0))
        assert np.abs(dense_crf(p, image) - dense_crf(p, 0 * image)).max() > 0.1

    def test_removes_an_island_by_smoothness_alone(self):
        foreground = np.full((9, 9), 0.1)
        foreground[4, 4] = 0.6
        refined = dense_crf(np.stack([1 - foreground, foreground]), np.zeros((1, 9, 9)), w1=0, w2=3)
        assert (refined[1] < 0.5).all()

    def test_changes_two_voxels_on_the_wrong_side_of_an_edge(self):
        """The example of the docstring."""
        image = np.array([[[0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0]]])
        foreground = np.array([[0.1, 0.6, 0.1, 0.1, 0.9, 0.9, 0.4, 0.9]])
        refined = dense_crf(np.stack([1 - foreground, foreground]), image)
        assert refined.argmax(axis=0).tolist() == [[0, 0, 0, 0, 1, 1, 1, 1]]

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_without_weights_is_the_identity(self, shape):
        _, image, p = two_regions(shape)
        np.testing.assert_allclose(dense_crf(p, image, w1=0, w2=0), p, atol=1e-6)

    def test_of_several_classes_sums_to_one(self):
        p = np.random.default_rng(0).dirichlet(np.ones(4), size=(12, 13)).transpose(2, 0, 1)
        p[:, 0, 0] = (0, 0, 0, 1)
        refined = dense_crf(p, np.random.default_rng(1).random((3, 12, 13)))
        np.testing.assert_allclose(refined.sum(axis=0), 1, atol=1e-6)
        assert refined.min() >= 0

    def test_turns_with_its_arguments(self):
        _, image, p = two_regions((16, 20))
        turned = dense_crf(p.transpose(0, 2, 1), image.transpose(0, 2, 1), theta_alpha=(3, 8))
        straight = dense_crf(p, image, theta_alpha=(8, 3))
        difference = np.abs(turned.transpose(0, 2, 1) - straight)
        assert difference.mean() < 0.005  # the lattice has directions of its own
        assert np.abs(dense_crf(p, image, theta_alpha=(3, 8)) - straight).mean() > 2 * difference.mean()

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
    def test_keeps_kind_dtype_and_meta_data(self, dtype):
        _, image, p = two_regions((8, 8))
        tensor = MetaTensor(torch.from_numpy(p).to(dtype), meta={"filename_or_obj": "cells.tif"})
        refined = dense_crf(tensor, torch.from_numpy(image))
        assert isinstance(refined, MetaTensor)
        assert refined.dtype == dtype
        assert refined.meta["filename_or_obj"] == "cells.tif"
        np.testing.assert_allclose(refined.float(), dense_crf(p, image), atol=0.02)
        np.testing.assert_array_equal(tensor.float(), torch.from_numpy(p).to(dtype).float())

    @pytest.mark.parametrize(
        ("p", "image", "message"),
        [
            pytest.param(np.ones((1, 4, 4)), np.ones((1, 4, 4)), "2 classes or more", id="one channel"),
            pytest.param(np.full((2, 4), 0.5), np.ones((1, 4)), r"or \(K, D, H, W\)", id="1D"),
            pytest.param(np.full((2, 4, 4), 0.5), np.ones((1, 4, 5)), r"got \(1, 4, 5\)", id="another image"),
            pytest.param(np.full((2, 4, 4), 0.5), np.full((1, 4, 4), np.nan), "NaN or infinity", id="NaN image"),
            pytest.param(np.full((2, 4, 4), np.nan), np.ones((1, 4, 4)), "Apply softmax first", id="NaN"),
            pytest.param(np.full((2, 4, 4), 3.0), np.ones((1, 4, 4)), "Apply softmax first", id="logits"),
            pytest.param(np.tile([[[-1.0]], [[2.0]]], (4, 4)), np.ones((1, 4, 4)), "softmax first", id="negative"),
        ],
    )
    def test_refuses_what_is_no_probability_or_not_its_image(self, p, image, message):
        with pytest.raises(ValueError, match=message):
            dense_crf(p, image)

    def test_refuses_widths_for_other_axes(self):
        with pytest.raises(ValueError, match=r"theta_gamma needs one width, or one for each axis of \(4, 4\)"):
            dense_crf(np.full((2, 4, 4), 0.5), np.ones((1, 4, 4)), theta_gamma=(1, 1, 1))


@needs_pydensecrf
@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"theta_alpha": 0}, "theta_alpha is the width", id="alpha"),
        pytest.param({"theta_alpha": ()}, "theta_alpha is the width", id="no alpha"),
        pytest.param({"theta_beta": -1.0}, "theta_beta is the width", id="beta"),
        pytest.param({"theta_gamma": (1, 0)}, "theta_gamma is the width", id="gamma"),
        pytest.param({"w1": -1}, "w1 must be >= 0", id="w1"),
        pytest.param({"w2": float("nan")}, "w2 must be >= 0", id="w2"),
        pytest.param({"iterations": 0}, "iterations must be at least 1", id="iterations"),
    ],
)
def test_options_out_of_range_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        dense_crf(np.full((2, 4, 4), 0.5), np.ones((1, 4, 4)), **options)
    with pytest.raises(ValueError, match=message):
        DenseCRFd("pred", **options)


@needs_pydensecrf
class TestDictionaryTransform:
    def test_stands_between_softmax_and_instances(self):
        truth, image, p = two_regions(SHAPES[0])
        image = 1000 + 300 * image
        data = {"pred": torch.from_numpy(np.log(p)), "image": torch.from_numpy(image)}
        parts = [NormalizeIntensityd("image"), Activationsd("pred", softmax=True), DenseCRFd("pred")]
        instances = Compose([*parts, LabelInstancesd("pred")])(data)["pred"]
        assert instances.max() == 1
        assert class_dice(truth, instances[0], 2)[0] > 0.98

    def test_passes_every_option_on(self):
        _, image, p = two_regions(SHAPES[0])
        options = {"theta_alpha": (3, 4), "theta_beta": 0.2, "theta_gamma": 2, "w1": 2, "w2": 3, "iterations": 2}
        result = DenseCRFd("a", "scan", **options)({"a": p, "scan": image})
        np.testing.assert_array_equal(result["a"], dense_crf(p, image, **options))
        assert result["scan"] is image
        for name in options:  # and each makes a difference
            others = {key: value for key, value in options.items() if key != name}
            assert np.abs(result["a"] - dense_crf(p, image, **others)).max() > 1e-4

    def test_passes_over_missing_keys_only_if_allowed(self):
        data = {"image": np.ones((1, 4, 4))}
        assert DenseCRFd("pred", allow_missing_keys=True)(data) == data
        with pytest.raises(KeyError, match="pred"):
            DenseCRFd("pred")(data)


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydensecrf.densecrf", None)
    with pytest.raises(ImportError, match=r'pip install "overtile\[crf\]"'):
        DenseCRFd("pred")
    with pytest.raises(ImportError, match=r'pip install "overtile\[crf\]"'):
        dense_crf(np.full((2, 4, 4), 0.5), np.ones((1, 4, 4)))
