import numpy as np
import pytest

from overtile.reports.scenes import Scene, fullest_slice, gray, reduced_label


def test_x_runs_to_the_right_and_y_down():
    corner = np.zeros((5, 4), np.float32)
    corner[3:, 0] = 1  # right end of the first row
    scene = Scene.of(corner, corner, corner, corner)
    for array, top in ((scene.image, 255), (scene.truth, 1), (scene.prediction, 1), (scene.probability, 255)):
        assert np.array_equal(array, top * corner.T)


def test_contrast_is_stretched_but_for_the_extreme_voxels():
    image = np.concatenate([np.linspace(10, 20, 9998), [-1e6, 1e6]]).reshape(100, 100)
    stretched = gray(image)
    assert (stretched.min(), stretched.max()) == (0, 255)
    assert len(np.unique(stretched)) > 250


@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
def test_a_constant_image_is_black_without_warnings(value, recwarn):
    assert not gray(np.full((20, 10), value, np.float32)).any()
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_large_images_are_reduced_and_labels_keep_their_numbers():
    label = np.repeat(np.repeat([[3, 900], [70000, 5]], 1000, axis=0), 500, axis=1)
    scene = Scene.of(label.astype(np.float32), label, label, np.ones(label.shape, np.float32))
    assert scene.image.shape == scene.probability.shape == scene.truth.shape == (400, 800)
    assert np.array_equal(scene.truth[::200, ::400], [[3, 70000], [900, 5]])
    assert set(np.unique(scene.truth)) == {3, 5, 900, 70000}


def test_thin_images_keep_a_row():
    assert reduced_label(np.ones((3000, 1), int)).shape == (1, 800)


@pytest.mark.parametrize("with_truth", [True, False], ids=["truth", "no truth"])
def test_of_a_volume_the_slice_with_most_foreground_is_shown(with_truth):
    random = np.random.default_rng(0)
    image, label = random.random((6, 5)), random.integers(0, 3, (6, 5))
    flat = [image, label if with_truth else None, label, image]
    volume = [None if a is None else np.stack([0 * a, 0 * a, a, 0 * a], axis=-1) for a in flat]
    ours, theirs = Scene.of(*volume), Scene.of(*flat)
    assert np.array_equal(ours.image, theirs.image)
    assert np.array_equal(ours.prediction, theirs.prediction)
    assert np.array_equal(ours.probability, theirs.probability)
    assert fullest_slice(volume[2]) == (..., 2)


@pytest.mark.parametrize("with_truth", [True, False], ids=["truth", "no truth"])
def test_a_packed_scene_is_the_same_when_unpacked_and_smaller_in_between(with_truth):
    label = np.zeros((300, 200), np.int32)
    label[50:90, 20:120] = -1
    image = np.random.default_rng(0).random((300, 200)).astype(np.float32)
    scene = Scene.of(image, label if with_truth else None, label, image)
    packed = scene.packed()
    again = Scene.unpacked(packed)
    for ours, theirs in zip(vars(again).values(), vars(scene).values(), strict=True):
        assert np.array_equal(ours, theirs)
        assert theirs is None or ours.dtype == theirs.dtype
    assert len(packed) < 2.5 * 300 * 200  # of 10 bytes per pixel; noise does not shrink
