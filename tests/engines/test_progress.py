from types import SimpleNamespace

import pytest
import torch
from ignite.engine import Engine, Events

from overtile.engines import ProgressBar, progress


def training(losses=(0.5, 0.25), evaluator=None, epochs=2, start=0):
    """An engine whose steps return the given losses, with a bar; the optimizer's rate is 0.01."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.01)
    engine = Engine(lambda engine, batch: {"loss": torch.tensor(batch)})
    bar = ProgressBar(optimizer, evaluator)
    bar.attach(engine)

    @engine.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch, engine.state.iteration = start, start * len(losses)

    return engine, bar, lambda: engine.run(list(losses), max_epochs=epochs)


def test_the_bar_goes_to_the_error_stream_and_shows_epoch_loss_and_rate(capsys):
    training((0.5, 0.5))[-1]()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "4/4" in captured.err
    assert "epoch=2/2" in captured.err
    assert "loss=0.5000" in captured.err
    assert "lr=0.01" in captured.err


def test_a_resumed_training_starts_where_it_stopped(capsys):
    training(epochs=4, start=3)[-1]()
    shown = capsys.readouterr().err
    assert "6/8" in shown
    assert "8/8" in shown


def test_the_loss_is_smoothed():
    _, bar, run = training((1.0, 0.0), epochs=1)
    run()
    assert bar.loss == pytest.approx(0.95)


def test_the_latest_and_the_best_score_are_shown_once_there_are_any(capsys):
    evaluator = SimpleNamespace(state=SimpleNamespace(key_metric_name="val_f1", metrics={}, best_metric=-1))
    training(evaluator=evaluator)[-1]()
    assert "val_f1" not in capsys.readouterr().err
    evaluator.state = SimpleNamespace(key_metric_name="val_f1", metrics={"val_f1": 0.25}, best_metric=0.75)
    training(evaluator=evaluator)[-1]()
    assert "val_f1=0.2500 (best 0.7500)" in capsys.readouterr().err


@pytest.fixture
def bars(monkeypatch):
    """Every bar that is opened."""
    opened = []
    real = progress.tqdm

    def remember(*args, **kwargs):
        opened.append(real(*args, **kwargs))
        return opened[-1]

    monkeypatch.setattr(progress, "tqdm", remember)
    return opened


def test_one_bar_is_opened_and_closed_at_the_end(bars):
    _, bar, run = training(epochs=3)
    run()
    assert len(bars) == 1
    assert bars[0].disable  # what tqdm's close() leaves
    assert bars[0].n == 6
    assert bar.bar is None


def test_an_error_in_a_step_closes_the_bar_and_reaches_the_caller_as_it_was(bars):
    engine, _, run = training()
    error = RuntimeError("out of memory")

    @engine.on(Events.ITERATION_COMPLETED(once=2))
    def fail(engine):
        raise error

    with pytest.raises(RuntimeError) as caught:
        run()
    assert caught.value is error
    assert bars[0].disable


def test_an_interruption_by_the_keyboard_reaches_the_caller(bars):
    engine, _, run = training()

    @engine.on(Events.ITERATION_COMPLETED(once=2))
    def interrupt(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert bars[0].disable
