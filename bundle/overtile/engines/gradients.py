"""Gradients between their computation and the optimizer's step."""

from __future__ import annotations

from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from torch.nn.utils import clip_grad_norm_


class GradientClipping:
    """Scales the gradients of a step down where their Euclidean norm, over all parameters, is larger than allowed.

    Attach it to a trainer of MONAI; gradients that its mixed precision has scaled up are scaled back first.

    Args:
        max_norm: of the gradients; 12 in nnU-Net.

    Raises:
        ValueError: for a norm that is not above 0.
    """

    def __init__(self, max_norm: float) -> None:
        if not max_norm > 0:
            raise ValueError(f"the largest norm of a gradient is a number above 0, got {max_norm}")
        self.max_norm = max_norm

    def attach(self, engine: Engine) -> None:
        """Ignite's convention."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Clips the gradients of the latest step."""
        if engine.scaler is not None:
            engine.scaler.unscale_(engine.optimizer)
        clip_grad_norm_(engine.network.parameters(), self.max_norm)
