"""Cells that were seen but not outlined are not learnt as background."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from monai.data import MetaTensor

from overtile.transforms import IgnoreUnannotatedd, SeparationWeightsd, ignore_unannotated

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "DIC-C2DH-HeLa"


def disc(shape, centre, radius):
    return sum((np.indices(shape)[axis] - centre[axis]) ** 2 for axis in range(len(shape))) <= radius**2


@pytest.fixture
def frame():
    """Two outlined cells of radius 6 and three markers of radius 2: one in each cell, one in a third, not outlined."""
    label, markers = np.zeros((2, 60, 80), np.int32)
    for number, centre in enumerate(((15, 15), (15, 40), (45, 60)), start=1):
        if number < 3:
            label[disc(label.shape, centre, 6)] = number
        markers[disc(label.shape, centre, 2)] = number + 10  # the challenge's markers have numbers of their own
    return label, markers


def test_background_around_a_marker_without_outline_is_ignored_up_to_the_reach(frame):
    label, markers = frame
    radius = (np.count_nonzero(label == 1) / np.pi) ** 0.5  # both cells are of one size
    near = np.zeros(label.shape, bool)
    for x, y in np.argwhere(markers == 13):  # a slow twin: a disc around every voxel of the marker
        near |= disc(label.shape, (x, y), 2 * radius)
    result = ignore_unannotated(label, markers, 255)
    np.testing.assert_array_equal(result, np.where(near & (label == 0), 255, label))
    assert 255 in result
    np.testing.assert_array_equal(result[label > 0], label[label > 0])


def test_a_fully_outlined_image_stays_as_it_is(frame):
    label, markers = frame
    assert ignore_unannotated(label, np.where(markers == 13, 0, markers), 255) is label


def test_an_image_without_outlines_teaches_no_background(frame):
    _, markers = frame
    assert (ignore_unannotated(np.zeros_like(markers), markers, 255) == 255).all()


@pytest.mark.parametrize(("covered", "annotated"), [(2, False), (3, True)])
def test_a_cell_counts_as_outlined_if_more_than_half_of_its_marker_is_covered(covered, annotated):
    markers = np.array([[7, 7, 7, 7, 0, 0]])
    label = np.where(np.arange(6) < covered, 1, 0)[None]
    assert (255 not in ignore_unannotated(label, markers, 255)) == annotated


def test_reach_is_in_radii_of_a_ball_for_volumes():
    label, markers = np.zeros((2, 41, 41, 41), np.int32)
    ball = disc(label.shape, (8, 8, 8), 6)
    label[ball] = 1
    markers[8, 8, 8], markers[28, 28, 28] = 1, 2
    radius = (3 * ball.sum() / (4 * np.pi)) ** (1 / 3)
    ignored = ignore_unannotated(label, markers, 9, reach=1.5) == 9
    np.testing.assert_array_equal(ignored, disc(label.shape, (28, 28, 28), 1.5 * radius))


def test_the_weights_of_ignored_voxels_are_zero_and_the_markers_are_gone(frame):
    label, markers = (MetaTensor(torch.from_numpy(array[None])) for array in frame)
    data = IgnoreUnannotatedd("label", ignore_label=65535)({"label": label, "marker": markers})
    assert set(data) == {"label"}
    assert isinstance(data["label"], MetaTensor)
    weighted = SeparationWeightsd("label", ignore_label=65535)(data)
    assert ((weighted["weight"] == 0) == (data["label"] == 65535)).all()


def test_the_markers_stay_where_they_are_asked_for(frame):
    label, markers = (array[None] for array in frame)
    data = IgnoreUnannotatedd("label", ignore_label=255, drop_markers=False)({"label": label, "marker": markers})
    assert data["marker"] is markers


def test_without_a_value_to_ignore_the_remedy_is_named():
    with pytest.raises(ValueError, match="give ignore_label, for example 65535"):
        IgnoreUnannotatedd("label", ignore_label=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"markers": np.zeros((3, 3), int)}, r"one shape, they have \(60, 80\) and \(3, 3\)"),
        ({"ignore_label": 0}, "ignore_label 0 already means something"),
        ({"ignore_label": 2}, "ignore_label 2 already means something"),
        ({"reach": -1}, "must not be negative, got -1"),
    ],
)
def test_wrong_arguments_are_refused(frame, change, message):
    label, markers = frame
    arguments = {"label": label, "markers": markers, "ignore_label": 255, **change}
    with pytest.raises(ValueError, match=message):
        ignore_unannotated(**arguments)


@pytest.mark.skipif(not DATA.is_dir(), reason=f"no {DATA}")
def test_the_fifteen_cells_without_outline_of_hela_frame_67_are_ignored():
    label = tifffile.imread(DATA / "01_GT" / "SEG" / "man_seg067.tif")
    markers = tifffile.imread(DATA / "01_GT" / "TRA" / "man_track067.tif")
    result = ignore_unannotated(label, markers, 65535)
    bare = [number for number in np.unique(markers[markers > 0]) if (label[markers == number] > 0).mean() <= 0.5]
    assert len(bare) == 15
    assert all((result[markers == number] == 65535).mean() > 0.5 for number in bare)
    np.testing.assert_array_equal(result[label > 0], label[label > 0])
