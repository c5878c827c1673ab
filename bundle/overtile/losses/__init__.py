"""Losses: the paper's pixel-weighted cross entropy, and nnU-Net's Dice and deep supervision."""

from overtile.losses.cross_entropy import WeightedCrossEntropyLoss
from overtile.losses.deep_supervision import DeepSupervisionLoss
from overtile.losses.dice import DiceCrossEntropyLoss, SoftDiceLoss

__all__ = ["DeepSupervisionLoss", "DiceCrossEntropyLoss", "SoftDiceLoss", "WeightedCrossEntropyLoss"]
