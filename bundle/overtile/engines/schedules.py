"""Learning-rate policies, as factors for ``torch.optim.lr_scheduler.LambdaLR``."""

from __future__ import annotations


def polynomial_decay(epoch: int, max_epochs: int, power: float = 0.9) -> float:
    """Factor of the learning rate in an epoch: ``(1 - epoch / max_epochs) ** power``, Caffe's "poly" policy.

    The papers give no policy; see docs/paper.md.

    Args:
        epoch: epochs that are over, from 0.
        max_epochs: length of the training.
        power: 1 for a straight line, 0 for a constant rate.

    Examples:
        >>> [round(polynomial_decay(epoch, 100), 3) for epoch in (0, 50, 90, 100)]
        [1.0, 0.536, 0.126, 0.0]
    """
    return float(max(1 - epoch / max_epochs, 0.0) ** power)
