"""One seed for a training run, however it was interrupted."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd

from overtile.engines.distributed import rank

_RANK_STRIDE = 1_000_003  # seeds of the processes of one run, far apart


class EpochSeed:
    """Seeds every random draw anew at the start of each epoch, from the seed and the number of the epoch.

    So a training that was stopped and resumed after an epoch goes on exactly as if it had never stopped: the draws
    of the transforms (also in worker processes), the order of the images and dropout. Each process of a
    distributed run draws on its own.

    Args:
        seed: of the run.
        dataset: the training data set, whose random transforms are seeded.
    """

    def __init__(self, seed: int, dataset: object) -> None:
        self.seed = seed
        self.dataset = dataset

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        """Seeds PyTorch and the transforms for the epoch that starts."""
        seed = self.seed * 10_000 + engine.state.epoch + rank() * _RANK_STRIDE
        torch.manual_seed(seed)
        set_rnd(self.dataset, seed=seed)
