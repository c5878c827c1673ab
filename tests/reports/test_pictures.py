import numpy as np
import pytest
from PIL import Image

from overtile.engines.pictures import _GAP, _LARGEST, _SMALLEST, _TITLE, result_picture


def scene(shape=(60, 48)):
    """Image, truth, prediction and probability of two cells along x, MONAI's first axis."""
    random = np.random.default_rng(0)
    truth = np.zeros(shape, np.int32)
    truth[10:20, 10:30] = 1
    truth[30:50, 10:30] = 7
    probability = 0.2 + 0.6 * (truth > 0)
    image = (truth > 0) + 0.1 * random.normal(size=shape)
    return image.astype(np.float32), truth, np.where(truth == 7, 3, 0), probability.astype(np.float32)


def panels(picture, count, columns=None):
    """The panels without titles and gaps, as arrays (height, width, RGB)."""
    columns = columns or count
    width = (picture.width + _GAP) // columns - _GAP
    height = picture.height // -(-count // columns) - _TITLE
    corners = [(n // columns * (height + _TITLE) + _TITLE, n % columns * (width + _GAP)) for n in range(count)]
    return [np.asarray(picture)[top : top + height, left : left + width] for top, left in corners]


@pytest.mark.parametrize(
    ("shape", "columns", "rows"),
    [
        pytest.param((40, 40), 4, 1, id="square"),
        pytest.param((20, 40), 4, 1, id="high"),
        pytest.param((60, 40), 2, 2, id="wide"),
    ],
)
def test_four_panels_stand_in_a_row_or_in_two_where_they_are_wide(shape, columns, rows):
    empty = np.zeros(shape, np.int32)
    picture = result_picture(empty.astype(np.float32), empty, empty, np.ones(shape, np.float32))
    height = round(shape[1] * _SMALLEST / shape[0])
    assert picture.mode == "RGB"
    assert picture.size == (columns * (_SMALLEST + _GAP) - _GAP, rows * (height + _TITLE))
    pixels = np.asarray(picture)
    for row in range(rows):
        titles = pixels[row * (height + _TITLE) :][:_TITLE]
        for column in range(columns):
            assert (titles[:, column * (_SMALLEST + _GAP) :][:, :_SMALLEST] < 128).any()  # black on white
    gap = pixels[_TITLE : _TITLE + height, _SMALLEST : _SMALLEST + _GAP]
    assert (gap == 255).all()
    assert all((panel == 0).all() for panel in panels(picture, 4, columns)[:3])
    assert (panels(picture, 4, columns)[3] == 255).all()


def test_without_a_truth_there_are_three_panels():
    image, _, prediction, probability = scene()
    picture = result_picture(image, None, prediction, probability)
    with_truth = panels(result_picture(*scene()), 4)
    without = panels(picture, 3)
    for ours, theirs in zip(without, (with_truth[0], with_truth[2], with_truth[3]), strict=True):
        assert np.array_equal(ours, theirs)


def test_x_runs_to_the_right_and_y_down():
    corner = np.zeros((5, 4), np.float32)
    corner[3:, 0] = 1  # right end of the first row
    shown = panels(result_picture(corner, None, np.zeros((5, 4), np.int32), corner), 3)[2][..., 0]
    assert np.array_equal(shown == 255, np.kron(corner.T == 1, np.ones((64, 64), bool)))  # 64 = 320 / 5


def test_the_probability_is_shown_in_gray_as_it_is():
    image, truth, prediction, _ = scene((4, 4))
    probability = np.full((4, 4), 0.2, np.float32)
    assert (panels(result_picture(image, truth, prediction, probability), 4)[3] == 51).all()


def test_every_cell_has_a_colour_of_its_own_and_the_background_none():
    image, truth, prediction, probability = scene()
    _, truth_panel, prediction_panel, _ = panels(result_picture(image, truth, prediction, probability), 4)
    scale = truth_panel.shape[1] / 60

    def at(panel, x, y):
        return panel[int((y + 0.5) * scale), int((x + 0.5) * scale)].astype(int)

    first, second, outside = at(truth_panel, 15, 20), at(truth_panel, 40, 20), at(truth_panel, 2, 2)
    assert np.ptp(outside) == 0
    assert np.ptp(first) > 20
    assert np.ptp(second) > 20
    assert np.abs(first - second).max() > 20
    assert np.ptp(at(prediction_panel, 15, 20)) == 0  # not found
    assert np.ptp(at(prediction_panel, 40, 20)) > 20


def test_small_images_are_enlarged_without_inventing_values_and_large_ones_reduced():
    checks = np.indices((5, 5)).sum(axis=0) % 2 * 1.0
    probability = panels(result_picture(checks, None, np.zeros((5, 5), int), checks), 3)[2]
    assert set(np.unique(probability)) == {0, 255}
    wide = np.zeros((2 * _LARGEST, 10), np.float32)
    assert result_picture(wide, None, wide.astype(int), wide).size == (2 * (_LARGEST + _GAP) - _GAP, 2 * (5 + _TITLE))


def test_an_image_one_voxel_high_still_has_a_picture():
    line = np.zeros((3 * _LARGEST, 1), np.float32)
    assert result_picture(line, None, line.astype(int), line).height == 2 * (_TITLE + 1)


@pytest.mark.parametrize("with_truth", [True, False], ids=["truth", "no truth"])
def test_of_a_volume_the_slice_with_most_foreground_is_shown(with_truth):
    image, truth, prediction, probability = scene()
    volume = [np.stack([0 * array, array, 0 * array], axis=-1) for array in (image, truth, prediction, probability)]
    flat = [image, truth, prediction, probability]
    if not with_truth:
        volume[1] = flat[1] = None
    assert np.array_equal(np.asarray(result_picture(*volume)), np.asarray(result_picture(*flat)))


@pytest.mark.parametrize("shape", [(20, 10), (20, 10, 3)], ids=["2D", "3D"])
@pytest.mark.parametrize("value", [0.0, -3.5, 1e6])
def test_a_constant_image_and_an_empty_label_have_a_picture_without_warnings(shape, value, recwarn):
    empty = np.zeros(shape, np.int32)
    image = np.full(shape, value, np.float32)
    picture = result_picture(image, empty, empty, np.zeros(shape, np.float32))
    assert isinstance(picture, Image.Image)
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_the_caption_stands_behind_the_title_of_the_prediction():
    plain, captioned = (np.asarray(result_picture(*scene(), caption=caption)) for caption in ("", "F1 0.5"))
    row, column = np.nonzero((plain != captioned).any(axis=2))
    assert row.max() < _TITLE
    assert 2 * (_SMALLEST + _GAP) < column.min() < column.max() < 3 * (_SMALLEST + _GAP)
