from dataclasses import astuple
from pathlib import Path

import ctc_metrics.metrics as ctc  # the challenge's own Python package
import numpy as np
import pytest
import tifffile
from ctc_metrics.utils import representations as ctc_matching
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from overtile.metrics import DetectionCounts, det, detection_counts, seg, seg_scores

HELA = Path(__file__).resolve().parents[2] / "../shared/data/DIC-C2DH-HeLa"
needs_hela = pytest.mark.skipif(not HELA.is_dir(), reason=f"no DIC-C2DH-HeLa in {HELA}")

TRUTH = np.array([1, 1, 1, 1, 0, 2, 2, 2, 2, 0])
EMPTY = np.zeros_like(TRUTH)


def challenge(folder, truth, prediction):
    """SEG and DET of two sequences of label images by the challenge's package, which reads TIFF files."""
    matches = []
    for number, pair in enumerate(zip(truth, prediction, strict=True)):
        files = [str(folder / f"{number}_{name}.tif") for name in ("truth", "prediction")]
        for file, image in zip(files, pair, strict=True):
            tifffile.imwrite(file, np.asarray(image).astype(np.int32))
        matches.append(ctc_matching.match(*files))
    true, predicted, mapped_true, mapped_predicted, iou = map(list, zip(*matches, strict=True))
    operations = ctc_matching.count_acyclic_graph_correction_operations(
        None, None, true, predicted, mapped_true, mapped_predicted
    )
    return ctc.seg(true, iou), ctc.det(**operations)


def grown_cells(random, number, size=64):
    """A label image of ``number`` discs, the later ones above the earlier."""
    image = np.zeros((size, size), np.int32)
    x, y = np.mgrid[:size, :size]
    for name in range(1, number + 1):
        centre = random.integers(0, size, 2)
        image[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 < random.integers(9, 100)] = name
    return image


def spoiled(random, image):
    """The same cells moved by a few pixels, merged in pairs, some lost, some cut in two."""
    names = random.permutation(image.max() + 1) * (random.random(image.max() + 1) > 0.2)
    names[0] = 0
    moved = np.roll(names[(image + 1) // 2], random.integers(-3, 4, 2), axis=(0, 1))
    return np.where((moved > 0) & (np.arange(64) < 32), moved + 50, moved)


@pytest.mark.parametrize("seed", range(8))
def test_of_random_sequences_the_challenges_package_finds_the_same(tmp_path, seed):
    random = np.random.default_rng(seed)
    truth = [grown_cells(random, number) for number in (3, 12, 30)]
    prediction = [spoiled(random, image) for image in truth]
    counts = [detection_counts(*pair) for pair in zip(truth, prediction, strict=True)]
    assert all(map(any, zip(*map(astuple, counts), strict=True)))  # every kind of error is there
    assert (seg(truth, prediction), det(truth, prediction)) == pytest.approx(challenge(tmp_path, truth, prediction))


@needs_hela
@pytest.mark.slow
def test_of_silver_against_gold_truth_the_challenges_package_finds_the_same(tmp_path):
    """Real cells, and markers of a few pixels for DET; the oracle takes most of the time."""

    def silver(gold):
        return [tifffile.imread(HELA / f"01_ST/SEG/man_seg{file.stem[-3:]}.tif") for file in gold]

    segmented, marked = (sorted((HELA / "01_GT" / kind).glob("*.tif")) for kind in ("SEG", "TRA"))
    few = marked[::7]
    gold, markers = [tifffile.imread(file) for file in segmented], [tifffile.imread(file) for file in few]
    assert len(gold) == 9
    assert seg(gold, silver(segmented)) == pytest.approx(challenge(tmp_path, gold, silver(segmented))[0], abs=1e-6)
    assert seg(gold, silver(segmented)) == pytest.approx(0.9537, abs=1e-4)
    assert det(markers, silver(few)) == pytest.approx(challenge(tmp_path, markers, silver(few))[1], abs=1e-6)


@pytest.mark.parametrize(
    ("prediction", "scores", "counts"),
    [
        pytest.param([1, 1, 1, 1, 0, 2, 2, 2, 2, 0], [1, 1], (2, 0, 0, 0), id="perfect"),
        pytest.param([9, 9, 9, 9, 0, 4, 4, 4, 4, 0], [1, 1], (2, 0, 0, 0), id="perfect by other names"),
        pytest.param([1, 1, 0, 0, 0, 2, 2, 2, 0, 0], [0, 3 / 4], (2, 0, 1, 1), id="one half is not more than half"),
        pytest.param([1, 1, 3, 3, 0, 2, 2, 2, 2, 3], [0, 1], (2, 0, 1, 2), id="cut in halves: no half finds it"),
        pytest.param([1, 1, 1, 3, 0, 2, 2, 2, 2, 0], [3 / 4, 1], (2, 0, 0, 1), id="cut 3 + 1"),
        pytest.param([1, 1, 1, 1, 1, 1, 1, 1, 1, 0], [4 / 9, 4 / 9], (2, 1, 0, 0), id="merged: found, to be split"),
        pytest.param([1, 1, 1, 1, 0, 2, 2, 2, 2, 3], [1, 1], (2, 0, 0, 1), id="an extra counts in DET only"),
        pytest.param(EMPTY, [0, 0], (2, 0, 2, 0), id="nothing predicted"),
    ],
)
def test_hand_made_cases_have_their_scores_and_counts(prediction, scores, counts):
    assert seg_scores(TRUTH, prediction).tolist() == scores
    assert detection_counts(TRUTH, prediction) == DetectionCounts(*counts)


@st.composite
def label_image_pairs(draw):
    shape = draw(array_shapes(min_dims=1, max_dims=3, max_side=6))
    labels = arrays(np.int64, shape, elements=st.integers(0, 4))
    return draw(labels), draw(labels)


@given(label_image_pairs())
def test_scores_and_counts_are_those_of_the_definition_mask_by_mask(pair):
    truth, prediction = pair
    predicted = {int(i): prediction == i for i in np.unique(prediction[prediction > 0])}
    scores, finders = [], []
    for true in (truth == i for i in np.unique(truth[truth > 0])):
        found = [i for i, mask in predicted.items() if (mask & true).sum() > 0.5 * true.sum()]
        scores.append(sum((predicted[i] & true).sum() / (predicted[i] | true).sum() for i in found))
        finders += found
    assert seg_scores(*pair).tolist() == scores
    assert detection_counts(*pair) == DetectionCounts(
        markers=len(scores),
        splits=sum(finders.count(i) - 1 for i in set(finders)),
        misses=len(scores) - len(finders),
        false_positives=len(predicted) - len(set(finders)),
    )


def test_seg_is_the_mean_over_objects_not_over_images():
    many, one = np.array([[1, 2, 3, 0]]), np.array([[1, 0, 0, 0]])
    assert seg([many, one], [many, 0 * one]) == 3 / 4


def test_an_image_without_annotation_counts_nowhere_in_seg():
    annotated, bare = np.array([[1, 1, 0, 0]]), np.zeros((1, 4), int)
    assert seg([annotated, bare], [annotated, annotated]) == 1


def test_the_errors_of_all_images_are_added_before_det_is_taken():
    many, one = np.array([[1, 0, 2, 0, 3]]), np.array([[1, 0, 0, 0, 0]])
    missed, invented = np.array([[1, 0, 2, 0, 0]]), np.array([[1, 0, 2, 0, 3]])
    assert det([many, one], [missed, invented]) == 1 - (10 + 1 + 1) / 40
    counts = detection_counts(many, missed) + detection_counts(one, invented)
    assert (counts, counts.det) == (DetectionCounts(4, 0, 1, 2), 1 - 12 / 40)


def test_det_is_never_below_nothing_at_all():
    assert det([[1, 0, 0, 0]], [[1, 2, 3, 4]]) == 1 - 3 / 10
    assert det([np.eye(20, dtype=int)], [np.arange(400).reshape(20, 20)]) == 0


def test_without_a_true_object_seg_is_no_number_and_det_asks_for_silence():
    nothing, something = np.zeros((2, 2), int), np.eye(2, dtype=int)
    assert np.isnan(seg(nothing, something))
    assert (det(nothing, nothing), det(nothing, something)) == (1, 0)


@pytest.mark.parametrize("measure", [seg, det])
def test_sequences_may_be_lists_tuples_or_arrays_and_an_image_may_come_alone(measure):
    random = np.random.default_rng(0)
    truth, prediction = random.integers(0, 3, (2, 4, 5, 6))
    whole = measure(truth, prediction)
    assert measure(list(truth), tuple(prediction)) == measure(truth.tolist(), prediction.tolist()) == whole
    assert measure(truth[0], prediction[0]) == measure([truth[0]], [prediction[0]])
    assert measure([truth], [prediction]) != whole  # one volume: an object is one through all its slices


def test_voxels_without_ground_truth_count_in_neither_image():
    truth, prediction = np.array([1, 1, 0, 255, 255, 255]), np.array([1, 1, 1, 1, 2, 2])
    assert seg_scores(truth, prediction, ignore=truth == 255).tolist() == [2 / 3]
    assert detection_counts(truth, prediction, ignore=truth == 255) == DetectionCounts(1, 0, 0, 0)
    assert detection_counts(truth, prediction, ignore=truth == 1) == DetectionCounts(1, 0, 0, 1)


def test_images_without_a_partner_are_refused():
    with pytest.raises(ValueError, match="its predicted one; 3 and 2 came"):
        seg(np.zeros((3, 2, 2), int), np.zeros((2, 2, 2), int))
    with pytest.raises(ValueError, match="one shape"):
        det([np.zeros((2, 2), int)], [np.zeros((2, 3), int)])
    with pytest.raises(TypeError):
        detection_counts(TRUTH, TRUTH) + 1
