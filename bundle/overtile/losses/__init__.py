"""Losses: the paper's pixel-weighted cross entropy."""

from overtile.losses.cross_entropy import WeightedCrossEntropyLoss

__all__ = ["WeightedCrossEntropyLoss"]
