import numpy as np
import pytest

from overtile.reports.training_panels import READ, WRITE, TrainingSample, training_panels, weight_colours


def sample(margin=20, depth=None, window=100, start=(150, 100), with_positions=True):
    """A window cut from a gray image without deformation; of a volume in slice 3 of 8, with a margin in depth of 2."""
    shape = (400, 300) if depth is None else (400, 300, depth)
    image = np.random.default_rng(0).random(shape).astype(np.float32)
    label = np.zeros(shape, np.int32)
    label[180:220, 130:160] = 1
    if depth:
        label[..., np.arange(depth) != 3] = 0
    weight = 1.0 + 9 * label
    margins = (margin, margin) if depth is None else (margin, margin, 1)
    corner = start if depth is None else (*start, 1)
    size = (window, window) if depth is None else (window, window, 4)
    write = tuple(slice(c + m, c + m + s) for c, m, s in zip(corner, margins, size, strict=True))
    read = tuple(slice(c, c + 2 * m + s) for c, m, s in zip(corner, margins, size, strict=True))
    positions = np.stack(np.meshgrid(*(np.arange(r.start, r.stop) for r in read), indexing="ij")).astype(np.float32)
    return TrainingSample(
        image, label, weight, image[read], label[write], weight[write], positions if with_positions else None
    )


def places(pixels, colour):
    """Bounding box of the pixels of one colour: left, top, right, bottom."""
    rows, columns = np.nonzero((pixels == colour).all(axis=-1))
    return columns.min(), rows.min(), columns.max(), rows.max()


@pytest.mark.parametrize("depth", [None, 8], ids=["2D", "3D"])
def test_the_windows_are_drawn_where_the_sample_comes_from(depth):
    (whole, *_), _ = training_panels(sample(depth=depth))
    assert whole.pixels.shape == (300, 400, 3)
    assert places(whole.pixels, READ) == pytest.approx((150, 100, 290, 240), abs=2)
    assert places(whole.pixels, WRITE) == pytest.approx((170, 120, 270, 220), abs=2)


@pytest.mark.parametrize("depth", [None, 8], ids=["2D", "3D"])
def test_the_frame_of_the_window_to_write_stands_in_the_window_to_read(depth):
    _, (read, label, weight) = training_panels(sample(depth=depth))
    factor = read.pixels.shape[0] // 140
    assert places(read.pixels, WRITE) == pytest.approx(np.multiply((20, 20, 120, 120), factor), abs=factor + 1)
    assert label.pixels.shape == weight.pixels.shape == (400, 400, 3)


def test_of_a_volume_label_and_weight_are_those_of_one_slice():
    _, (_, label, weight) = training_panels(sample(depth=8))
    assert np.ptp(label.pixels.astype(int), axis=-1).max() > 0  # a tint
    assert len(np.unique(weight.pixels.reshape(-1, 3), axis=0)) == 2


def test_without_a_margin_there_is_one_window_and_no_frame():
    (whole, *_), (read, *_) = training_panels(sample(margin=0))
    assert not (whole.pixels == READ).all(axis=-1).any()
    assert (whole.pixels == WRITE).all(axis=-1).any()
    assert not (read.pixels == WRITE).all(axis=-1).any()


def test_lines_that_were_straight_in_the_image_are_drawn_in_the_sample():
    plain = training_panels(sample(with_positions=False))[1][0].pixels.astype(int)
    lined = training_panels(sample())[1][0].pixels.astype(int)
    bright = (lined - plain)[..., 0] > 20
    assert bright.mean(axis=0).max() > 0.6  # a column
    assert bright.mean(axis=1).max() > 0.6  # a row
    assert bright.mean() < 0.35


def test_windows_that_leave_the_image_are_drawn_as_far_as_it_goes():
    moved = sample()
    moved.coordinates[0] -= 200
    (whole, *_), _ = training_panels(moved)
    assert places(whole.pixels, READ)[0] == 0


def test_weights_have_colours_on_a_logarithmic_scale_and_none_is_black():
    weight = np.array([[0.0, 1.0, 10.0, 100.0, 1000.0]])
    colours = weight_colours(weight, (1.0, 100.0))[:: 320 // 5, 0]
    assert colours.tolist() == [[0, 0, 0], [68, 1, 84], [33, 144, 141], [253, 231, 37], [253, 231, 37]]


def test_equal_weights_need_no_scale():
    flat = sample()
    assert weight_colours(np.ones((4, 4)), (1.0, 1.0)).any()
    assert flat.weight_range() == (1.0, 10.0)
