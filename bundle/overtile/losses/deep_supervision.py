"""A loss on several answers of one network, at falling resolutions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class DeepSupervisionLoss(nn.Module):
    """The weighted mean of a loss over the heads of a network, of which each has half the resolution of the one before.

    For networks that return their heads stacked, each enlarged to the size of the first, as MONAI's ``DynUNet`` does in
    training. MONAI's ``DeepSupervisionLoss`` takes a list instead, and its weights do not sum to 1. Each head is
    compared with the whole label, where nnU-Net reduces the label: an enlarged voxel is compared with all voxels below
    it, and none of them, nor their weights, is passed over.

    Args:
        loss: called with the logits of a head, label and weight.
        weights: one per head, the highest resolution first; they are divided by their sum. Halved from head to head
            when absent, as nnU-Net's are.

    Raises:
        ValueError: for weights below 0 or without any above it.
    """

    def __init__(self, loss: nn.Module, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        if weights is not None and (min(weights, default=0) < 0 or sum(weights) <= 0):
            raise ValueError(f"weights of heads are 0 or more, and one of them is more, got {list(weights)}")
        self.loss = loss
        self.weights = weights

    def forward(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """One number, differentiable in the logits of all heads.

        Args:
            logits: (B, heads, K, *spatial), or (B, K, *spatial) of a network with one head or in evaluation mode.
            label: with its channel axis, (B, 1, *spatial) or (B, 2, *spatial): it tells the two kinds of logits apart.
            weight: as the loss takes it.

        Raises:
            ValueError: for another number of heads than of weights, and what the loss raises.
        """
        if logits.ndim == label.ndim:
            plain: torch.Tensor = self.loss(logits, label, weight)
            return plain
        if logits.ndim != label.ndim + 1:
            raise ValueError(
                "logits are (B, heads, K, *spatial) or (B, K, *spatial) for a label with a channel axis, got "
                f"{tuple(logits.shape)} for a label {tuple(label.shape)}"
            )
        heads = logits.unbind(dim=1)
        factors = [0.5**head for head in range(len(heads))] if self.weights is None else self.weights
        if len(factors) != len(heads):
            raise ValueError(f"there are {len(factors)} weights for {len(heads)} heads: give one for each")
        losses = [factor * self.loss(head, label, weight) for factor, head in zip(factors, heads, strict=True)]
        return torch.stack(losses).sum() / sum(factors)
