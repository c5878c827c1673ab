"""What a training leaves: ``model.pt``, the best weights, ``model.yaml``, what they are of, and ``last.ckpt``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from ignite.engine import Engine, Events
from torch import nn

from overtile.engines.distributed import rank
from overtile.engines.whole_files import replace_whole
from overtile.networks import unwrapped

logger = logging.getLogger(__name__)

OVERLAY_HEADER = "# What model.pt beside this file was trained with: give it behind the other config files.\n"


class TrainingCheckpoint:
    """Saves the best weights and the state of the training, and resumes from it.

    ``model.pt`` is a flat dictionary of weights, as MONAI's tools and MONAI Label load it; it is replaced whenever a
    validation was the best so far (at every save, where nothing is validated). ``model.yaml`` beside it holds the
    ``options``, an overlay for inference with these weights. ``last.ckpt`` holds weights, optimizer,
    learning-rate policy, epoch and best score, and has a name that MONAI Label does not take for a model's. All are
    written under another name first, so an interruption leaves the earlier file whole. Only the first process of a
    distributed run writes.

    Put this handler behind those that validate and that step the learning rate.

    Args:
        directory: made if it does not exist.
        network: the network, or its parallel wrapper.
        optimizer: of the training.
        lr_scheduler: its learning-rate policy, if any.
        evaluator: the validation, whose key metric tells which weights are best.
        interval: epochs between saves; the last epoch is always saved.
        resume: go on from ``last.ckpt``; start afresh, with a warning, where there is none.
        options: values of the configuration that inference needs too: those of the network and of what follows it.
        best: file name of the best weights.
        last: file name of the state.

    Raises:
        ValueError: when a file to resume from does not fit the network.
    """

    def __init__(
        self,
        directory: str,
        network: nn.Module,
        optimizer: torch.optim.Optimizer,
        lr_scheduler: Any = None,
        evaluator: Engine | None = None,
        interval: int = 1,
        resume: bool = False,
        options: Mapping[str, Any] | None = None,
        best: str = "model.pt",
        last: str = "last.ckpt",
    ) -> None:
        self.best = Path(directory) / best
        self.last = Path(directory) / last
        self.network = unwrapped(network)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.evaluator = evaluator
        self.interval = interval
        self.resume = resume
        self.overlay = None if options is None else OVERLAY_HEADER + str(yaml.safe_dump(dict(options), sort_keys=False))

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        if self.resume:
            engine.add_event_handler(Events.STARTED, self._load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Saves what is due after an epoch."""
        epoch, last_epoch = engine.state.epoch, engine.state.max_epochs
        due = epoch % self.interval == 0 or epoch == last_epoch
        if rank() > 0 or not due:
            return
        self.best.parent.mkdir(parents=True, exist_ok=True)
        score = {} if self.evaluator is None else _score(self.evaluator)
        if self.evaluator is None or score["best_metric_epoch"] in (epoch, -1):
            _save(self.network.state_dict(), self.best)
            if self.overlay is not None:
                text = self.overlay
                replace_whole(self.best.with_suffix(".yaml"), lambda path: path.write_text(text, encoding="utf-8"))
        scheduler = None if self.lr_scheduler is None else self.lr_scheduler.state_dict()
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "lr_scheduler": scheduler,
            "epoch": epoch,
            "iteration": engine.state.iteration,
            **score,
        }
        _save(state, self.last)

    def _load(self, engine: Engine) -> None:
        if not self.last.is_file():
            logger.warning("nothing to resume: %s does not exist; the training starts afresh", self.last)
            return
        state = torch.load(self.last, map_location="cpu", weights_only=True)
        try:
            self.network.load_state_dict(state["network"])
            self.optimizer.load_state_dict(state["optimizer"])
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(
                f"{self.last} does not fit this network and optimizer: resume with the options it was trained with, "
                f"or choose another --ckpt_dir ({str(error).splitlines()[0]})"
            ) from error
        if self.lr_scheduler is not None and state["lr_scheduler"] is not None:
            self.lr_scheduler.load_state_dict(state["lr_scheduler"])
        engine.state.epoch = state["epoch"]
        engine.state.iteration = state["iteration"]
        if self.evaluator is not None and "best_metric" in state:
            self.evaluator.state.best_metric = state["best_metric"]
            self.evaluator.state.best_metric_epoch = state["best_metric_epoch"]
        logger.info("resumed from %s after epoch %d", self.last, state["epoch"])


def _score(evaluator: Engine) -> dict[str, float | int]:
    return {
        "best_metric": float(evaluator.state.best_metric),
        "best_metric_epoch": int(evaluator.state.best_metric_epoch),
    }


def _save(content: dict[str, Any], path: Path) -> None:
    replace_whole(path, lambda temporary: torch.save(content, temporary))
