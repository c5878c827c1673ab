import pytest
from torch.utils.tensorboard import SummaryWriter

from overtile.reports import Curve, learning_curves


def write(folder, tag, points, start):
    """An event file with a value per step, written in one second each."""
    with SummaryWriter(str(folder), filename_suffix=f".{start}.{tag}") as writer:
        for seconds, (step, value) in enumerate(points.items()):
            writer.add_scalar(tag, value, step, walltime=start + seconds)


def test_the_loss_comes_first_and_counts_steps_the_scores_count_epochs(tmp_path):
    write(tmp_path, "a_score", {2: 0.5, 4: 0.75}, start=1000)
    write(tmp_path, "train_loss", {1: 4, 2: 3}, start=1000)
    curves = learning_curves(tmp_path)
    assert curves == [Curve("train_loss", (1, 2), (4, 3)), Curve("a_score", (2, 4), (0.5, 0.75))]
    assert [curve.unit for curve in curves] == ["step", "epoch"]


def test_what_a_resumed_training_writes_again_replaces_what_was_written_before(tmp_path):
    write(tmp_path, "train_loss", {1: 9, 2: 8, 3: 7, 4: 6}, start=1000)
    write(tmp_path, "train_loss", {3: 1, 4: 2, 5: 3}, start=2000)  # stopped in step 4, resumed after step 2
    (curve,) = learning_curves(tmp_path)
    assert curve == Curve("train_loss", (1, 2, 3, 4, 5), (9, 8, 1, 2, 3))


def test_a_training_that_began_anew_replaces_all_before_it(tmp_path):
    write(tmp_path, "train_loss", {1: 9, 2: 8, 3: 7}, start=1000)
    write(tmp_path, "score", {1: 0.1}, start=1002)
    write(tmp_path, "train_loss", {1: 5, 2: 4}, start=2000)
    assert learning_curves(tmp_path) == [Curve("train_loss", (1, 2), (5, 4))]


def test_long_trainings_keep_all_their_steps(tmp_path):
    write(
        tmp_path, "train_loss", {step: step for step in range(1, 12001)}, start=1000
    )  # TensorBoard itself keeps 10,000
    assert len(learning_curves(tmp_path)[0].steps) == 12000


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_no_numbers_are_left_out(tmp_path, value):
    write(tmp_path, "train_loss", {1: 2, 2: value, 3: 1}, start=1000)
    assert learning_curves(tmp_path)[0].steps == (1, 3)


def test_without_event_files_there_are_no_curves(tmp_path):
    assert learning_curves(tmp_path) == learning_curves(tmp_path / "missing") == []
