from types import SimpleNamespace

import pytest
import torch
import yaml
from ignite.engine import Engine, Events
from ignite.metrics import Average
from monai.engines import Evaluator
from torch import nn

from overtile.engines import TrainingCheckpoint, checkpoints


def validation(scores):
    """MONAI's evaluator, with its own bookkeeping of the best, whose metric takes the given values in turn."""
    coming = iter(scores)
    return Evaluator(
        device="cpu",
        val_data_loader=[0],
        iteration_update=lambda engine, batch: next(coming),
        key_val_metric={"score": Average()},
        decollate=False,
    )


def training(folder, scores=None, *, network=None, handlers=(), validated_every=1, **options):
    """A training of a 2x2 layer in which every step changes weights and momentum, two steps per epoch."""
    network = network or nn.Linear(2, 2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    policy = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5)
    evaluator = None if scores is None else validation(scores)

    def step(engine, batch):
        optimizer.zero_grad()
        network(torch.ones(1, 2)).square().sum().backward()
        optimizer.step()

    engine = Engine(step)
    if evaluator is not None:
        validated = Events.EPOCH_COMPLETED(every=validated_every)
        engine.add_event_handler(validated, lambda engine: evaluator.run(engine.state.epoch))
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: policy.step())
    checkpoint = TrainingCheckpoint(str(folder), network, optimizer, policy, evaluator, **options)
    checkpoint.attach(engine)
    for handler in handlers:
        engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    return SimpleNamespace(
        engine=engine,
        network=network,
        optimizer=optimizer,
        policy=policy,
        evaluator=evaluator,
        run=lambda epochs: engine.run([0, 1], max_epochs=epochs),
    )


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def load(file):
    return torch.load(file, weights_only=True)


def test_the_best_weights_are_a_flat_dictionary_that_loads_without_pickle_into_the_network(tmp_path):
    run = training(tmp_path)
    run.run(1)
    content = load(tmp_path / "model.pt")
    assert same(content, weights(run.network))
    nn.Linear(2, 2).load_state_dict(content)


@pytest.mark.parametrize(
    ("scores", "best_epoch"),
    [
        pytest.param([0.1, 0.7, 0.5], 2, id="in the middle"),
        pytest.param([0.7, 0.5, 0.1], 1, id="first"),
        pytest.param([0.1, 0.5, 0.7], 3, id="last"),
        pytest.param([0.5, 0.5, 0.5], 1, id="all equal"),
        pytest.param([0.0, 0.0, 0.0], 1, id="all zero"),
    ],
)
def test_model_pt_holds_the_weights_of_the_best_validation_and_last_pt_the_latest(tmp_path, scores, best_epoch):
    history = {}
    run = training(
        tmp_path, scores, handlers=[lambda engine: history.update({engine.state.epoch: weights(run.network)})]
    )
    run.run(3)
    assert same(load(tmp_path / "model.pt"), history[best_epoch])
    assert same(load(tmp_path / "last.ckpt")["network"], history[3])
    assert load(tmp_path / "last.ckpt")["best_metric_epoch"] == best_epoch


def test_without_a_validation_every_save_is_the_best(tmp_path):
    run = training(tmp_path)
    run.run(3)
    assert same(load(tmp_path / "model.pt"), weights(run.network))
    assert "best_metric" not in load(tmp_path / "last.ckpt")


def test_model_yaml_says_with_which_options_the_best_weights_were_trained(tmp_path):
    options = {"features": 32, "norm": None, "padding": "valid", "instances": True, "scale": 0.5}
    training(tmp_path, [0.1, 0.2], options=options).engine.run([0], max_epochs=2)
    text = (tmp_path / "model.yaml").read_text(encoding="utf-8")
    assert text.startswith("# What model.pt beside this file was trained with")
    assert yaml.safe_load(text) == options
    assert list(yaml.safe_load(text)) == list(options)


def test_a_training_that_is_no_better_leaves_model_yaml_with_its_weights(tmp_path):
    training(tmp_path, [0.5], options={"features": 1}).engine.run([0], max_epochs=1)
    training(tmp_path, [0.1], options={"features": 2}, resume=True).engine.run([0], max_epochs=2)
    assert yaml.safe_load((tmp_path / "model.yaml").read_text(encoding="utf-8")) == {"features": 1}


@pytest.mark.parametrize(("interval", "saved_at"), [(1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])])
def test_files_are_written_every_interval_and_after_the_last_epoch(tmp_path, interval, saved_at):
    seen = []

    def look(engine):
        if (tmp_path / "last.ckpt").exists():
            seen.append(load(tmp_path / "last.ckpt")["epoch"])

    training(tmp_path, interval=interval, handlers=[look]).run(5)
    assert sorted(set(seen)) == saved_at


def test_a_training_that_ends_before_its_first_validation_still_leaves_weights(tmp_path):
    run = training(tmp_path, [], validated_every=10, interval=10)
    run.run(2)
    assert same(load(tmp_path / "model.pt"), weights(run.network))


@pytest.mark.parametrize("epochs_before", [1, 3])
def test_resuming_restores_weights_momentum_rate_counters_and_the_best_score(tmp_path, epochs_before):
    before = training(tmp_path, [0.2, 0.6, 0.4])
    before.run(epochs_before)
    momenta = [state["momentum_buffer"].clone() for state in before.optimizer.state.values()]
    assert all(float(buffer.abs().sum()) > 0 for buffer in momenta)

    after = training(tmp_path, [], resume=True)
    restored = {}

    def remember(engine):
        restored["network"] = weights(after.network)
        restored["momenta"] = [state["momentum_buffer"].clone() for state in after.optimizer.state.values()]
        restored["counters"] = engine.state.epoch, engine.state.iteration
        engine.terminate()

    after.engine.add_event_handler(Events.STARTED, remember)  # behind the handler that loads
    after.run(9)
    assert same(restored["network"], weights(before.network))
    assert all(torch.equal(a, b) for a, b in zip(restored["momenta"], momenta, strict=True))
    assert restored["counters"] == (epochs_before, 2 * epochs_before)
    assert after.optimizer.param_groups[0]["lr"] == before.optimizer.param_groups[0]["lr"] == 0.1 * 0.5**epochs_before
    assert after.policy.last_epoch == epochs_before
    best = before.evaluator.state
    assert (after.evaluator.state.best_metric, after.evaluator.state.best_metric_epoch) == (
        best.best_metric,
        best.best_metric_epoch,
    )


def test_a_resumed_training_runs_only_the_epochs_that_are_left(tmp_path):
    training(tmp_path).run(2)
    epochs = []
    training(tmp_path, resume=True, handlers=[lambda engine: epochs.append(engine.state.epoch)]).run(5)
    assert epochs == [3, 4, 5]


def test_resuming_a_finished_training_changes_nothing(tmp_path):
    training(tmp_path).run(2)
    content = (tmp_path / "last.ckpt").read_bytes(), (tmp_path / "model.pt").read_bytes()
    training(tmp_path, resume=True).run(2)
    assert ((tmp_path / "last.ckpt").read_bytes(), (tmp_path / "model.pt").read_bytes()) == content


def test_a_worse_score_after_resuming_does_not_replace_the_best_weights(tmp_path):
    best = training(tmp_path, [0.9])
    best.run(1)
    training(tmp_path, [0.3, 0.5], resume=True).run(3)
    assert same(load(tmp_path / "model.pt"), weights(best.network))
    training(tmp_path, [0.95], resume=True).run(4)
    assert not same(load(tmp_path / "model.pt"), weights(best.network))


def test_resuming_without_a_file_warns_by_name_and_starts_afresh(tmp_path, caplog):
    run = training(tmp_path / "new", resume=True)
    run.run(1)
    assert f"{tmp_path / 'new' / 'last.ckpt'} does not exist" in caplog.text
    assert load(tmp_path / "new" / "last.ckpt")["epoch"] == 1


def test_without_resume_an_old_state_is_not_read(tmp_path):
    (tmp_path / "last.ckpt").write_bytes(b"not a checkpoint")
    training(tmp_path).run(1)
    assert load(tmp_path / "last.ckpt")["epoch"] == 1


def test_a_state_of_another_network_is_refused_with_the_file_the_reason_and_the_remedy(tmp_path):
    training(tmp_path).run(1)
    other = training(tmp_path, network=nn.Sequential(nn.Linear(2, 5), nn.Linear(5, 2)), resume=True)
    with pytest.raises(ValueError, match=r"last\.ckpt does not fit this network .* choose another --ckpt_dir"):
        other.run(2)


@pytest.mark.parametrize("scores", [None, [0.1, 0.2]], ids=["without", "with validation"])
def test_an_interrupted_write_leaves_the_earlier_files_whole_and_nothing_else(tmp_path, monkeypatch, scores):
    training(tmp_path, scores).run(1)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def full_disk(content, file):
        file.write_bytes(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full_disk)
    with pytest.raises(OSError, match="no space left"):
        training(tmp_path, scores).run(1)
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before
    assert before.keys() == {"model.pt", "last.ckpt"}


def test_a_parallel_wrapper_leaves_no_trace_in_the_files(tmp_path):
    training(tmp_path / "wrapped", network=nn.DataParallel(nn.Linear(2, 2))).run(1)
    training(tmp_path / "bare").run(1)
    wrapped, bare = (load(tmp_path / name / "model.pt").keys() for name in ("wrapped", "bare"))
    assert wrapped == bare == {"weight", "bias"}
    training(tmp_path / "wrapped", resume=True).run(2)  # a bare network goes on from a wrapped one's state


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "rank", lambda: 1)
    training(tmp_path / "models").run(1)
    assert not (tmp_path / "models").exists()


def test_files_may_have_other_names(tmp_path):
    training(tmp_path, best="a.pt", last="b.pt").run(1)
    assert {file.name for file in tmp_path.iterdir()} == {"a.pt", "b.pt"}
