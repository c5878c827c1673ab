"""A training run in one line that moves."""

from __future__ import annotations

import sys
from typing import Any

from ignite.engine import Engine, Events
from tqdm import tqdm

from overtile.engines.batches import step_loss

_SMOOTHING = 0.05  # share of the newest step in the displayed loss
_QUIET_INTERVAL = 30.0  # seconds between lines where the output is a file and not a terminal


class ProgressBar:
    """Shows steps, loss, learning rate, latest and best validation score, and the time that is left.

    Args:
        optimizer: whose learning rate to show.
        evaluator: whose key metric to show, if there is one.
    """

    def __init__(self, optimizer: Any, evaluator: Engine | None = None) -> None:
        self.optimizer = optimizer
        self.evaluator = evaluator
        self.bar: Any = None
        self.loss: float | None = None

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.EPOCH_STARTED, self._open)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self)
        engine.add_event_handler(Events.COMPLETED | Events.EXCEPTION_RAISED, self._close)

    def _open(self, engine: Engine) -> None:
        if self.bar is None:
            self.bar = tqdm(
                total=engine.state.max_epochs * engine.state.epoch_length,
                initial=engine.state.iteration,
                desc="training",
                unit="step",
                mininterval=0.2 if sys.stderr.isatty() else _QUIET_INTERVAL,
            )

    def __call__(self, engine: Engine) -> None:
        """One step further."""
        loss = step_loss(engine.state.output)
        self.loss = loss if self.loss is None else self.loss + _SMOOTHING * (loss - self.loss)
        shown = {"epoch": f"{engine.state.epoch}/{engine.state.max_epochs}", "loss": f"{self.loss:.4f}"}
        shown["lr"] = f"{self.optimizer.param_groups[0]['lr']:.2g}"
        state = getattr(self.evaluator, "state", None)
        name = str(getattr(state, "key_metric_name", None))
        if state is not None and name in state.metrics:
            shown[name] = f"{float(state.metrics[name]):.4f} (best {float(state.best_metric):.4f})"
        self.bar.set_postfix(shown, refresh=False)
        self.bar.update()

    def _close(self, engine: Engine, *error: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
        if error:
            raise error[0]
