"""Trained weights into a network, or a message that says why they do not fit."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from overtile.networks import unwrapped

logger = logging.getLogger(__name__)


class LoadWeights:
    """Loads ``model.pt`` at the start of a run.

    Args:
        path: a flat dictionary of weights, as :class:`TrainingCheckpoint` writes it.
        network: the network, or its parallel wrapper.

    Raises:
        FileNotFoundError: at the start of the run, if there is no such file.
        ValueError: at the start of the run, if the weights are those of another network; names the first difference.
    """

    def __init__(self, path: str, network: nn.Module) -> None:
        self.path = Path(path)
        self.network = unwrapped(network)

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: Engine | None = None) -> None:
        """Loads the weights."""
        if not self.path.is_file():
            raise FileNotFoundError(
                f"no trained weights at {self.path.absolute()}: train first, or say where they are with --ckpt_dir"
            )
        weights = torch.load(self.path, map_location="cpu", weights_only=True)
        own = self.network.state_dict()
        for name in (*weights, *own):
            theirs, ours = (_shape(state.get(name)) for state in (weights, own))
            if theirs != ours:
                raise ValueError(
                    f"{self.path} holds the weights of another network: {name} has shape {theirs} there and {ours} "
                    f"here; give {self.path.with_suffix('.yaml').name}, which the training wrote beside it, as the "
                    "last --config_file, or the options it was trained with (--features, --levels, --norm, ...)"
                )
        self.network.load_state_dict(weights)
        logger.info("weights loaded from %s", self.path)


def _shape(tensor: object) -> str:
    return str(tuple(tensor.shape)) if isinstance(tensor, torch.Tensor) else "none"
