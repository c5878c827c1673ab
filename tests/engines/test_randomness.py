import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import Dataset
from monai.transforms import RandLambda

from overtile.engines import EpochSeed, randomness

EPOCHS = 4
ADAMW = {"_target_": "torch.optim.AdamW", "params": "$@network.parameters()", "lr": "@learning_rate"}


def train(workflow, folder, stop_after=None, **options):
    """What a training of the bundle's own train.json leaves in ``last.ckpt``; maybe it is stopped early."""
    options = {"norm": "batch", "max_epochs": EPOCHS, "ckpt_dir": str(folder), "learning_rate": 0.01, **options}
    run = workflow("train.json", **options)
    if stop_after is not None:
        trainer = run.parser.get_parsed_content("train::trainer")
        trainer.add_event_handler(Events.EPOCH_COMPLETED(once=stop_after), lambda engine: engine.terminate())
    run.run()
    run.finalize()
    return torch.load(folder / "last.ckpt", weights_only=True)


def differences(a, b, path=""):
    """Where two nested states differ, bit for bit."""
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [path]
    if isinstance(a, dict | list | tuple):
        assert type(a) is type(b), path
        assert len(a) == len(b), path
        keys = a.keys() if isinstance(a, dict) else range(len(a))
        return [found for key in keys for found in differences(a[key], b[key], f"{path}/{key}")]
    return [] if a == b else [path]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="dropout, batch norm, all random transforms"),
        pytest.param({"steps_per_epoch": 3, "batch_size": 2, "val_interval": 2}, id="validated every other epoch"),
        pytest.param({"optimizer": ADAMW}, id="AdamW"),
        pytest.param({"num_workers": 2}, id="two workers"),
        pytest.param({"cache_rate": 0.0}, id="nothing cached"),
    ],
)
def test_a_training_that_was_stopped_and_resumed_equals_one_that_was_not_bit_for_bit(workflow, tmp_path, options):
    whole = train(workflow, tmp_path / "whole", **options)
    half = train(workflow, tmp_path / "halves", stop_after=2, **options)
    rest = train(workflow, tmp_path / "halves", resume=True, **options)
    assert half["epoch"] == 2
    assert differences(half["network"], whole["network"])  # there was something left to learn
    assert rest["epoch"] == whole["epoch"] == EPOCHS
    assert differences(rest, whole) == []
    best = [torch.load(tmp_path / name / "model.pt", weights_only=True) for name in ("whole", "halves")]
    assert differences(*best) == []


def test_one_seed_gives_one_result_and_another_seed_another(workflow, tmp_path):
    first, again, other = (
        train(workflow, tmp_path / name, seed=seed, max_epochs=1) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert differences(first, again) == []
    assert differences(first["network"], other["network"])


def draws(seed, epochs, rank=0, monkeypatch=None):
    """What a random transform and PyTorch draw in the first step of each epoch."""
    if monkeypatch is not None:
        monkeypatch.setattr(randomness, "rank", lambda: rank)
    data = Dataset([0.0], RandLambda(func=lambda x: x, prob=1.0))
    drawn = {}

    def step(engine, batch):
        drawn[engine.state.epoch] = float(data.transform.R.uniform()), float(torch.rand(1))

    engine = Engine(step)
    EpochSeed(seed, data).attach(engine)
    engine.run([0], max_epochs=epochs)
    return drawn


def test_every_epoch_draws_anew_and_the_same_again_in_another_run():
    first = draws(0, epochs=5)
    assert len(set(first.values())) == 5
    torch.rand(7)  # whatever was drawn before
    assert draws(0, epochs=5) == first
    assert not set(draws(1, epochs=5).values()) & set(first.values())


def test_every_process_draws_on_its_own(monkeypatch):
    alone, other = draws(0, epochs=3), draws(0, epochs=3, rank=1, monkeypatch=monkeypatch)
    assert not set(alone.values()) & set(other.values())
