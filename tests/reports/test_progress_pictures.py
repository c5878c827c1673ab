import numpy as np
import pytest

from overtile.reports import training_picture, validation_picture
from overtile.reports.pictures import _GAP, _TITLE, CLASS_COLOURS
from overtile.reports.progress_pictures import PANEL

INPUT, TRUTH, WEIGHT, IMAGE, PREDICTION, PROBABILITY = range(6)


def step(margin=30, size=(340, 340), touching=False):
    """Two cells of a step that writes 340x340 voxels; the network has found one region that covers both."""
    label = np.zeros(size, np.int64)
    label[40:100, 50:150] = label[103:160, 50:150] = 1
    found = np.zeros(size)
    found[40:160, 50:150] = 1
    read = np.pad(np.where(label > 0, 3.0, 1.0), margin, mode="reflect").astype(np.float32)
    weight = np.where(label > 0, 2.0, 0.5).astype(np.float32)
    weight[100:103, 50:150] = 12.0
    return {"read": read, "label": label, "weight": weight, "probabilities": np.stack([1 - found, found])}


def panels(picture, count, columns):
    """The panels without titles and gaps, as arrays (height, width, RGB)."""
    width = (picture.width + _GAP) // columns - _GAP
    height = picture.height // -(-count // columns) - _TITLE
    corners = [(n // columns * (height + _TITLE) + _TITLE, n % columns * (width + _GAP)) for n in range(count)]
    return [np.asarray(picture)[top : top + height, left : left + width] for top, left in corners]


def training_panels(**options):
    return panels(training_picture(**{**step(), **options}), 6, 3)


def colours(pixels):
    """The colours that are no gray."""
    return {tuple(map(int, colour)) for colour in pixels.reshape(-1, 3) if np.ptp(colour) > 0}


def test_a_merger_is_seen_two_colours_of_the_truth_are_one_in_the_prediction():
    shown = training_panels()
    assert len(colours(shown[TRUTH])) == 2
    assert len(colours(shown[PREDICTION])) == 1
    assert colours(shown[PREDICTION]) < colours(shown[TRUTH])


def test_classes_have_their_own_colour_wherever_they_are():
    given = step()
    given["label"][103:160] *= 2
    shown = panels(training_picture(**given, instances=False), 6, 3)
    for place, colour in (((40, 50), CLASS_COLOURS[0]), ((103, 50), CLASS_COLOURS[1])):
        assert tuple(shown[TRUTH][place[1], place[0]]) == colour
    assert tuple(shown[PREDICTION][50, 40]) == CLASS_COLOURS[0]


def test_the_margin_is_half_as_bright_as_the_same_voxels_would_be_inside():
    given = step()
    given["read"] = np.random.default_rng(0).random((400, 400))
    shown = panels(training_picture(**given), 6, 3)[INPUT]
    rim, inside = shown[:20], shown[60:-60, 60:-60]
    assert rim.mean() == pytest.approx(inside.mean() / 2, abs=3)
    assert (training_panels(read=step(margin=0)["read"])[INPUT] == training_panels()[IMAGE]).all()


def test_the_window_that_is_written_is_where_the_label_is():
    """A voxel on each side of the frame's corner, in a window of 340 within one of 400."""
    read = np.full((400, 400), 1.0, np.float32)
    read[:, ::50] = 0.0
    shown = training_panels(read=read)[INPUT][..., 0].astype(int)
    border = round(30 / 400 * 340)
    assert shown[border + 3, border + 3] > 1.8 * shown[border - 3, border - 3] > 0


def test_weights_have_a_colour_and_their_range_a_title_and_weight_0_is_black():
    given = step()
    given["weight"][200:220, 200:220] = 0.0
    shown = panels(training_picture(**given), 6, 3)
    assert tuple(shown[WEIGHT][101, 100]) != tuple(shown[WEIGHT][5, 5]) != (0, 0, 0)
    assert tuple(shown[WEIGHT][210, 210]) == (0, 0, 0)
    dark, light = shown[TRUTH][210, 210, 0], shown[TRUTH][240, 240, 0]
    assert dark == light // 3


def test_the_probability_is_that_of_all_classes_but_the_background():
    probabilities = np.stack([np.full((340, 340), value) for value in (0.25, 0.25, 0.5)])
    shown = training_panels(probabilities=probabilities, instances=False)
    assert np.unique(shown[PROBABILITY]).tolist() == [191]
    assert colours(shown[PREDICTION])


def test_of_a_volume_one_slice_is_shown_with_the_input_of_the_same_depth():
    flat, depth = step(), 4
    given = {
        "label": np.stack([0 * flat["label"]] * 3 + [flat["label"]], axis=-1),
        "weight": np.stack([flat["weight"]] * depth, axis=-1),
        "probabilities": np.stack([flat["probabilities"]] * depth, axis=-1),
        "read": np.stack([0 * flat["read"]] * 5 + [flat["read"]] + [0 * flat["read"]] * 2, axis=-1),  # margin 2: 2 + 3
    }
    assert (np.asarray(training_picture(**given)) == np.asarray(training_picture(**flat))).all()


@pytest.mark.parametrize(
    "size", [(1, 1), (4, 4), (20, 36), (36, 20), (388, 388), (1500, 900), (900, 3000), (2, 600)], ids=str
)
@pytest.mark.parametrize("margin", [0, 6, 92])
def test_every_size_has_a_picture_no_larger_than_a_screen(size, margin):
    random = np.random.default_rng(0)
    label = random.integers(0, 2, size)
    read = random.normal(size=[n + 2 * margin for n in size])
    picture = training_picture(read, label, 1.0 + label, np.stack([1.0 - label, label]))
    assert max(picture.size) <= 3 * (2 * PANEL + _GAP)
    whole = validation_picture(read, np.zeros(read.shape, int), np.zeros(read.shape, int), np.zeros(read.shape))
    assert max(whole.size) <= 2 * (2 * PANEL + _TITLE)


@pytest.mark.parametrize("value", [0.0, 1.0], ids=["ignored", "alike"])
def test_weights_that_are_all_the_same_are_no_error(value):
    training_picture(**{**step(), "weight": np.full((340, 340), value, np.float32)})


def test_a_validation_shows_true_and_predicted_instances_in_the_same_colours_and_no_truth_darker():
    truth = np.zeros((340, 400), int)
    truth[20:80, 20:80], truth[100:160, 20:80] = 1, 2
    truth[:, 300:] = -1
    image = np.where(truth > 0, 2.0, 1.0)
    image[:, 350:] = 3.0
    picture = validation_picture(image, truth, np.where(truth == 2, 5, 0), np.where(truth == 2, 1.0, 0.0))
    source, true, found, probability = panels(picture, 4, 2)
    assert len(colours(true)) == 2
    assert colours(found) < colours(true)
    assert not colours(source)
    assert (true[360:, :, 0] == source[360:, :, 0] // 3).all()
    assert (probability[20:80, 100:160] == 255).all()
