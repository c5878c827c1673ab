import numpy as np
import pytest
import torch

from overtile import engines, metrics
from overtile.engines import VRandMetric, WarpingErrorMetric

ALL = pytest.mark.parametrize(
    ("name", "curve"),
    [
        ("VRand", metrics.v_rand_scores),
        ("VInfo", metrics.v_info_scores),
        ("RandError", metrics.rand_errors),
        ("WarpingError", metrics.warping_errors),
        ("PixelError", metrics.pixel_errors),
    ],
)


def slices(number=3, size=24):
    """Cells between walls, and a noisy probability of being inside, of each slice another best threshold: (n, x, y)."""
    random = np.random.default_rng(0)
    truth = np.ones((number, size, size), np.int64)
    for i, step in enumerate(range(5, 5 + number)):
        truth[i, ::step] = truth[i, :, ::step] = 0
    offset = np.linspace(0, 0.4, number)[:, None, None]
    probability = np.clip(0.5 * truth + offset + random.normal(0, 0.2, truth.shape), 0, 1)
    return truth, probability.astype(np.float32)


TRUTH, PROBABILITY = slices()


def scored(metric, truth=TRUTH, probability=PROBABILITY, channels=2):
    """The metric after the slices as a batch, membrane in channel 0 where there are two channels."""
    inside = torch.as_tensor(probability)[:, None]
    metric(
        y_pred=torch.cat([1 - inside, inside], dim=1) if channels == 2 else inside, y=torch.as_tensor(truth)[:, None]
    )
    return metric


@ALL
def test_the_score_is_the_best_threshold_of_the_mean_curve(name, curve):
    metric = scored(getattr(engines, f"{name}Metric")())
    curves = [curve(*pair) for pair in zip(TRUTH, PROBABILITY, strict=True)]
    best = max if metric.higher_is_better else min
    assert metric.aggregate() == pytest.approx(best(np.mean(curves, axis=0)), rel=1e-12)
    assert 0 < metric.aggregate() < 1
    rows = metric.get_buffer()
    assert [metric.score(rows[i : i + 1]) for i in range(3)] == pytest.approx([best(c) for c in curves], rel=1e-12)
    assert metric.aggregate() != pytest.approx(np.mean([best(c) for c in curves]), rel=1e-6)


@ALL
def test_more_is_better_in_scores_and_worse_in_errors(name, curve):
    metric = getattr(engines, f"{name}Metric")
    perfect, noisy = scored(metric(), probability=TRUTH.astype(np.float32)), scored(metric())
    assert metric.higher_is_better == (name in ("VRand", "VInfo"))
    assert perfect.aggregate() == pytest.approx(float(metric.higher_is_better))
    assert (noisy.aggregate() < perfect.aggregate()) == metric.higher_is_better


@ALL
def test_a_single_channel_is_the_interior_and_instances_are_interior(name, curve):
    metric = getattr(engines, f"{name}Metric")
    expected = scored(metric()).aggregate()
    assert scored(metric(), channels=1).aggregate() == expected
    assert scored(metric(), truth=TRUTH * np.arange(1, 25)).aggregate() == expected


@ALL
def test_a_volume_counts_slice_by_slice_along_its_last_axis(name, curve):
    metric = getattr(engines, f"{name}Metric")
    volume = metric()
    truth, probability = (torch.as_tensor(np.moveaxis(stack, 0, -1))[None, None] for stack in (TRUTH, PROBABILITY))
    volume(y_pred=probability, y=truth)
    assert volume.aggregate() == pytest.approx(scored(metric()).aggregate(), rel=1e-12)


def test_v_rand_of_a_batch_is_that_of_the_stack():
    assert scored(VRandMetric()).aggregate() == pytest.approx(metrics.v_rand(TRUTH, PROBABILITY), rel=1e-12)
    one = scored(VRandMetric(thresholds=[0.5])).aggregate()
    assert one == pytest.approx(metrics.v_rand(TRUTH, PROBABILITY, [0.5]), rel=1e-12)


def test_classes_are_probabilities_too_and_their_rows_as_wide():
    metric = scored(WarpingErrorMetric())
    metric(y_pred=torch.as_tensor(TRUTH)[:, None], y=torch.as_tensor(TRUTH)[:, None])  # after an arg-max: 0 and 1
    assert metric.get_buffer().shape == (6, 11)
    assert metric.score(metric.get_buffer()[3:]) == 0


def test_unequal_shapes_are_refused():
    with pytest.raises(ValueError, match=r"one shape, got \(4, 4, 1\) and \(4, 5, 1\)"):
        VRandMetric()(y_pred=torch.zeros(1, 2, 4, 4), y=torch.zeros(1, 1, 4, 5))
