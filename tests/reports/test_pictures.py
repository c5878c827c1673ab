import base64
import io

import numpy as np
import pytest
from PIL import Image

from overtile.reports.pictures import (
    _GAP,
    _SMALLEST,
    _TITLE,
    CLASS_COLOURS,
    Panel,
    instance_colours,
    matching_colours,
    outlined,
    result_picture,
    scene_panels,
)
from overtile.reports.scenes import Scene

WHITE = (255, 255, 255)


def scene(shape=(60, 48), truth=True):
    """Two cells along x, MONAI's first axis; the second is found under another number."""
    label = np.zeros(shape, np.int32)
    label[10:20, 10:30] = 1
    label[30:50, 10:30] = 7
    image = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    probability = (0.2 + 0.6 * (label > 0)).astype(np.float32)
    return Scene.of(image, label if truth else None, np.where(label == 7, 3, 0), probability)


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
        pytest.param((64, 40), 2, 2, id="wide"),
    ],
)
def test_four_panels_stand_in_a_row_or_in_two_where_they_are_wide(shape, columns, rows):
    empty = np.zeros(shape, np.int32)
    picture = result_picture(Scene.of(empty.astype(np.float32), empty, empty, np.ones(shape, np.float32)))
    factor = _SMALLEST // max(shape)
    width, height = factor * shape[0], factor * shape[1]
    assert picture.mode == "RGB"
    assert picture.size == (columns * (width + _GAP) - _GAP, rows * (height + _TITLE))
    pixels = np.asarray(picture)
    for row in range(rows):
        titles = pixels[row * (height + _TITLE) :][:_TITLE]
        for column in range(columns):
            assert (titles[:, column * (width + _GAP) :][:, :width] < 128).any()  # black on white
    assert (pixels[_TITLE : _TITLE + height, width : width + _GAP] == 255).all()
    assert all((panel == 0).all() for panel in panels(picture, 4, columns)[:3])
    assert (panels(picture, 4, columns)[3] == 255).all()


def test_the_caption_stands_behind_the_title_of_the_prediction():
    plain, captioned = (np.asarray(result_picture(scene(), caption=caption)) for caption in ("", "F1 0.5"))
    row, column = np.nonzero((plain != captioned).any(axis=2))
    assert row.max() < _TITLE
    width = panels(result_picture(scene()), 4)[0].shape[1]
    assert 2 * (width + _GAP) < column.min() < column.max() < 3 * (width + _GAP)


def test_without_a_truth_there_are_three_panels():
    titles = [panel.title for panel in scene_panels(scene(truth=False))]
    assert titles == ["image", "prediction", "probability"]


def test_an_outline_is_drawn_inside_its_region_and_leaves_the_image_visible():
    image = np.full((5, 6), 100, np.uint8)
    label = np.zeros((5, 6), np.int32)
    label[1:4, 1:5] = 9
    pixels = outlined(image, label, {9: (1, 2, 3)})
    expected = np.full((5, 6, 3), 100)
    expected[1:4, 1:5] = 1, 2, 3
    expected[2, 2:4] = 100
    assert np.array_equal(pixels, expected)


def test_a_tint_is_a_quarter_of_the_colour():
    label = np.ones((3, 3), np.int32)
    assert (outlined(np.full((3, 3), 100, np.uint8), label, {1: (200, 0, 100)}, tinted=True) == (125, 75, 100)).all()


def test_large_panels_have_lines_of_two_pixels():
    label = np.zeros((400, 400), np.int32)
    label[100:200, 100:200] = 1
    pixels = outlined(np.zeros((400, 400), np.uint8), label, {1: WHITE})
    assert list(np.flatnonzero(pixels[150, :, 0])) == [100, 101, 198, 199]


def test_regions_without_a_colour_are_left_out():
    label = np.array([[1, 1, 2, 2]], np.int32)
    assert not outlined(np.zeros((1, 4), np.uint8), label, {}).any()
    assert outlined(np.zeros((1, 4), np.uint8), label, {2: WHITE})[0, :, 0].tolist() == [0, 0, 255, 0]


def test_a_found_object_has_the_colour_of_the_true_one_of_which_it_covers_most():
    truth = np.array([[1, 1, 2, 2, 2, 0, 3]])
    prediction = np.array([[5, 5, 5, 5, 5, 6, 7]])
    colours = {1: (1, 1, 1), 2: (2, 2, 2), 3: (3, 3, 3)}
    assert matching_colours(truth, prediction, colours) == {5: (2, 2, 2), 6: WHITE, 7: (3, 3, 3)}


def test_objects_of_neighbouring_numbers_are_far_apart_in_colour():
    colours = instance_colours(np.arange(100))
    assert set(colours) == set(range(1, 100))
    steps = [np.abs(np.subtract(colours[n], colours[n + 1])).max() for n in range(1, 99)]
    assert min(steps) > 60


def test_truth_and_prediction_have_the_same_colours():
    _, truth, prediction, _ = (panel.pixels for panel in scene_panels(scene()))
    rows, columns = truth.shape[0] // 48, truth.shape[1] // 60
    corner = (10 * rows, 30 * columns)  # of the second cell
    assert tuple(truth[corner]) == tuple(prediction[corner])
    assert np.ptp(truth[corner].astype(int)) > 100
    missed = (10 * rows, 10 * columns)
    assert np.ptp(truth[missed].astype(int)) > 100
    assert np.ptp(prediction[missed].astype(int)) == 0


def test_classes_have_a_colour_each_in_every_image():
    label = np.zeros((10, 10), np.int32)
    label[:, 5:] = 2
    flat = Scene.of(np.zeros((10, 10), np.float32), label, 0 * label, np.zeros((10, 10), np.float32))
    _, truth, *_ = scene_panels(flat, instances=False)
    assert tuple(truth.pixels[160, 0]) == CLASS_COLOURS[1]
    assert not truth.pixels[0, 0].any()


def test_voxels_without_ground_truth_are_darkened():
    image, label = np.ones((10, 10), np.float32), np.zeros((10, 10), np.int32)
    image[0, 0], label[:5] = 0, -1  # a contrast; the left half is unknown
    known = scene_panels(Scene.of(image, label, 0 * label, image))[1].pixels
    assert known[50, -1, 0] == 255
    assert known[50, 10, 0] == 85


def test_the_probability_is_shown_in_gray_as_it_is():
    *_, probability = scene_panels(scene())
    assert set(np.unique(probability.pixels)) == {51, 204}


@pytest.mark.parametrize("noise", [0, 80], ids=["flat", "noise"])
def test_a_data_uri_holds_the_picture(noise):
    pixels = np.random.default_rng(0).integers(0, noise + 1, (90, 70, 3)).astype(np.uint8)
    start, _, content = Panel("x", pixels).data_uri().partition(",")
    picture = Image.open(io.BytesIO(base64.b64decode(content)))
    assert start == f"data:image/{picture.format.lower()};base64"
    assert picture.format == ("JPEG" if noise else "PNG")
    assert picture.size == (70, 90)
    assert np.abs(np.asarray(picture, int) - pixels).mean() < 12
