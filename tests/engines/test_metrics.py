import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator
from monai.handlers import from_engine

from overtile.engines import AveragePrecisionMetric, InstanceF1, InstanceF1Metric, PanopticQualityMetric
from overtile.metrics import average_precision, instance_scores


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


METRICS = pytest.mark.parametrize("metric", [InstanceF1Metric, PanopticQualityMetric, AveragePrecisionMetric])


def scored(metric, pairs):
    """The metric after some pairs (truth, prediction) of (1, *spatial) arrays."""
    for truth, found in pairs:
        metric(y_pred=[torch.as_tensor(found)], y=[torch.as_tensor(truth)])
    return metric


@METRICS
def test_a_row_of_the_buffer_is_the_score_of_its_image_and_all_rows_the_score_of_all(metric):
    whole = scored(metric(), zip(TRUTH, FOUND, strict=True))
    rows = whole.get_buffer()
    assert whole.aggregate() == whole.score(rows)
    for i in range(2):
        assert whole.score(rows[i : i + 1]) == scored(metric(), [(TRUTH[i], FOUND[i])]).aggregate()
    assert whole.higher_is_better


@METRICS
def test_the_score_of_some_images_is_that_of_the_images_side_by_side(metric):
    pairs = np.random.default_rng(1).integers(0, 5, (4, 2, 1, 6, 6))
    apart = [[labels + (labels > 0) * 10 * i for labels in pair] for i, pair in enumerate(pairs)]
    side_by_side = [np.concatenate(images, axis=-1) for images in zip(*apart, strict=True)]
    together = scored(metric(), [side_by_side]).aggregate()
    assert scored(metric(), pairs).aggregate() == pytest.approx(together, rel=1e-12)


def test_panoptic_quality_is_that_of_the_summed_scores():
    pairs = np.random.default_rng(2).integers(0, 4, (5, 2, 1, 6, 6))
    scores = [instance_scores(truth, found, 0.2) for truth, found in pairs]
    expected = sum(scores[1:], start=scores[0]).panoptic_quality
    assert scored(PanopticQualityMetric(iou_threshold=0.2), pairs).aggregate() == pytest.approx(expected, rel=1e-12)


def test_average_precision_of_one_image_is_the_mean_over_the_thresholds():
    truth, found = np.repeat([[1, 0, 2]], [20, 3, 10], axis=1), np.repeat([[1, 0, 2, 0]], [13, 10, 9, 1], axis=1)
    metric = scored(AveragePrecisionMetric(), [(truth, found)])  # IoU 0.65 and 0.9
    assert metric.aggregate() == pytest.approx(average_precision(truth, found).mean())
    assert metric.aggregate() == pytest.approx((4 * 1 + 5 * 1 / 3 + 1 * 0) / 10)
    strict = scored(AveragePrecisionMetric(iou_thresholds=[0.8]), [(truth, found)])
    assert strict.aggregate() == pytest.approx(1 / 3)


@METRICS
def test_every_instance_metric_leaves_out_voxels_without_ground_truth(metric):
    truth, found = cells((0, 3), (4, 7)), cells((0, 3), (4, 7), (9, 10))
    truth[0, 8:] = 255
    assert scored(metric(ignore_label=255), [(truth, found)]).aggregate() == 1
    assert scored(metric(), [(truth, found)]).aggregate() < 1


@METRICS
def test_where_every_metric_lacks_a_truth_it_says_its_name(metric):
    with pytest.raises(ValueError, match=f"{metric.__name__} compares a prediction with a truth: y is missing"):
        metric()(y_pred=[cells()])
