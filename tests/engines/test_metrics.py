import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine

from overtile.engines import InstanceF1, InstanceF1Metric
from overtile.metrics import instance_scores


def cells(*spans, size=12):
    """A label image (1, size) with one object per span."""
    label = torch.zeros(1, size, dtype=torch.int32)
    for number, (start, stop) in enumerate(spans, start=1):
        label[0, start:stop] = number
    return label


TRUTH = [cells((0, 3), (4, 7), (8, 11)), cells((0, 4))]
FOUND = [cells((0, 3), (4, 7)), cells((0, 4), (5, 8), (9, 12))]  # 2 of 3; 1 of 1 and two invented


def test_counts_of_all_images_are_pooled():
    metric = InstanceF1Metric()
    for truth, found in zip(TRUTH, FOUND, strict=True):
        metric(y_pred=found[None], y=truth[None])
    assert metric.aggregate() == 2 * 3 / (2 * 3 + 2 + 1)  # TP 3, FP 2, FN 1
    assert metric.aggregate() != np.mean([4 / 5, 1 / 2])  # the mean of the images' own


def test_a_batch_a_list_of_channel_first_images_and_single_images_score_the_same():
    batch, listed, single = InstanceF1Metric(), InstanceF1Metric(), InstanceF1Metric()
    batch(y_pred=torch.stack(FOUND), y=torch.stack(TRUTH))
    listed(y_pred=FOUND, y=TRUTH)
    for truth, found in zip(TRUTH, FOUND, strict=True):
        single(y_pred=[found], y=[truth])
    assert batch.aggregate() == listed.aggregate() == single.aggregate()


def test_it_is_the_f1_of_the_summed_scores_on_random_labels():
    random = np.random.default_rng(0)
    pairs = random.integers(0, 4, (5, 2, 1, 6, 6))
    metric = InstanceF1Metric(iou_threshold=0.2)
    metric(y_pred=torch.as_tensor(pairs[:, 1]), y=torch.as_tensor(pairs[:, 0]))
    scores = [instance_scores(truth, found, 0.2) for truth, found in pairs]
    assert metric.aggregate() == sum(scores[1:], start=scores[0]).f1


def test_prediction_and_truth_are_not_confused():
    metric = InstanceF1Metric()
    metric(y_pred=[cells((0, 3))], y=[cells((0, 3), (4, 7), (8, 11))])
    assert metric.get_buffer().tolist() == [[1, 0, 2, 1.0]]  # true positives, false positives, false negatives, IoU


def test_the_threshold_decides_what_is_found():
    truth, found = cells((0, 4)), cells((1, 4))  # IoU 0.75
    for threshold, expected in ((0.75, 1.0), (0.8, 0.0)):
        metric = InstanceF1Metric(threshold)
        metric(y_pred=[found], y=[truth])
        assert metric.aggregate() == expected


def test_nothing_to_find_and_nothing_found_is_perfect():
    metric = InstanceF1Metric()
    metric(y_pred=[cells()], y=[cells()])
    assert metric.aggregate() == 1


def test_after_a_reset_only_new_images_count():
    metric = InstanceF1Metric()
    metric(y_pred=[cells()], y=[cells((0, 3))])
    metric.reset()
    metric(y_pred=[cells((0, 3))], y=[cells((0, 3))])
    assert metric.aggregate() == 1


def test_without_an_image_or_a_truth_there_is_an_error_that_says_so():
    with pytest.raises(ValueError, match="no image has been scored yet"):
        InstanceF1Metric().aggregate()
    with pytest.raises(ValueError, match="y is missing"):
        InstanceF1Metric()(y_pred=[cells()])


def test_as_key_metric_of_an_evaluator_it_scores_each_epoch_on_its_own_and_keeps_the_best():
    samples = [{"image": found.float(), "label": truth} for found, truth in zip(FOUND, TRUTH, strict=True)]
    erase = torch.nn.Parameter(torch.ones(1))  # a network that finds everything times this
    network = torch.nn.Module()
    network.forward = lambda image: image * erase
    evaluator = SupervisedEvaluator(
        device=torch.device("cpu"),
        val_data_loader=DataLoader(Dataset(samples), batch_size=1),
        network=network,
        postprocessing=lambda item: {**item, "pred": item["pred"].round().int()},
        key_val_metric={"f1": InstanceF1(0.5, output_transform=from_engine(["pred", "label"]))},
    )
    evaluator.run(1)
    assert evaluator.state.metrics["f1"] == pytest.approx(2 / 3)
    with torch.no_grad():
        erase.zero_()
    evaluator.run(2)
    assert evaluator.state.metrics["f1"] == 0
    assert (evaluator.state.best_metric, evaluator.state.best_metric_epoch) == (pytest.approx(2 / 3), 1)


def test_voxels_without_ground_truth_count_in_neither_image():
    truth, found = cells((0, 3), (4, 7)), cells((0, 3), (4, 7), (9, 11))
    truth[0, 8:] = 255  # nobody has looked there
    ignoring, looking = InstanceF1Metric(0.75, ignore_label=255), InstanceF1Metric(0.75)
    for metric in (ignoring, looking):
        metric(y_pred=[found], y=[truth])
    assert ignoring.get_buffer().tolist()[0][:3] == [2, 0, 0]
    assert looking.get_buffer().tolist()[0][:3] == [2, 1, 1]  # takes the voxels for a cell that was missed
