"""Batch normalisation whose statistics fit the weights they are used with."""

from __future__ import annotations

import logging
from collections import deque

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from overtile.networks import unwrapped

logger = logging.getLogger(__name__)


class BatchNormEstimator:
    """Re-estimates the running statistics of all batch norms before a validation, over the latest training windows.

    Running averages over batches of one tile are noisy and lag behind the weights; with them the score in evaluation
    mode can collapse for a while (on DIC-HeLa from 0.70 to 0.06 and back). As ``torch.optim.swa_utils.update_bn``,
    but with dropout off, as in evaluation, and with windows that the training has just used, so nothing is loaded.
    Does nothing to a network without batch norm.

    A batch of one tile is normalised by its own statistics in training, and by the average in evaluation: to a network
    that has learnt to rely on the first, the second is another world. On Hippocampus the mean Dice of one network was
    0.75 with the average and 0.85 with each volume's own, which would make results depend on the tiling. So the last
    part of a training can run with the statistics fixed, as evaluation does: the weights then learn to live with them.

    Args:
        network: the network, or its (data-)parallel wrapper.
        interval: epochs between validations; put this handler before the one that validates.
        windows: how many of the latest batches to use.
        fix_after: share of the training's epochs, in (0, 1], after which the statistics stay as they were estimated at
            the last validation; 1 for never.
    """

    def __init__(self, network: nn.Module, interval: int = 1, windows: int = 16, fix_after: float = 1.0) -> None:
        if not 0 < fix_after <= 1:
            raise ValueError(f"fix_after is a share of the training in (0, 1], 1 for never, got {fix_after}")
        self.network = unwrapped(network)
        self.interval = interval
        self.fix_after = fix_after
        self.fixed = False
        self.norms = [module for module in self.network.modules() if isinstance(module, _BatchNorm)]
        self.recent: deque[torch.Tensor] = deque(maxlen=windows)

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        if self.norms:
            engine.add_event_handler(Events.STARTED, self._warn)
            engine.add_event_handler(Events.EPOCH_STARTED, self._decide)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._remember)
            engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.interval), self)

        for norm in self.norms:
            norm.register_forward_pre_hook(self._keep)

    def _warn(self, engine: Engine) -> None:
        last = (engine.state.max_epochs - 1) // self.interval * self.interval
        if self.fix_after < 1 and last < self.fix_after * engine.state.max_epochs:
            logger.warning(
                "batch norm is never fixed: no validation (every %d epochs) lies between %g of the %d epochs and the "
                "last; validate more often, or give a smaller share",
                self.interval,
                self.fix_after,
                engine.state.max_epochs,
            )

    def _decide(self, engine: Engine) -> None:
        """Whether this epoch runs with fixed statistics: from its number alone, so also after a resumption."""
        estimated = (engine.state.epoch - 1) // self.interval * self.interval  # when they were last estimated
        self.fixed = 0 < estimated >= self.fix_after * engine.state.max_epochs

    def _keep(self, norm: nn.Module, _: object) -> None:
        """Before each pass: the trainer puts the whole network into training mode at every step."""
        if self.fixed:
            norm.eval()

    def _remember(self, engine: Engine) -> None:
        self.recent.append(engine.state.output["image"].detach())

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Averages the statistics of the remembered batches, unless they are fixed."""
        if self.fixed:
            return
        training, momenta = self.network.training, [norm.momentum for norm in self.norms]
        self.network.eval()
        for norm in self.norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the plain average of all batches
        for image in self.recent:
            self.network(image)
        self.recent.clear()  # a training resumed after this validation remembers none of them either
        for norm, momentum in zip(self.norms, momenta, strict=True):
            norm.momentum = momentum
        self.network.train(training)
