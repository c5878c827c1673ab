"""The energy of the paper (arXiv:1505.04597, eq. 1): soft-max and cross entropy with a weight for every voxel."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from overtile.losses.targets import label_and_weight, without_ignored

Normalization = Literal["weights", "voxels", "none"]


class WeightedCrossEntropyLoss(nn.Module):
    """Pixel-weighted soft-max cross entropy, E = -sum_x w(x) log p_l(x)(x).

    Computed in float32 whatever the logits' type, so it is safe under float16 and bfloat16 autocast, and without any
    transfer between host and device. A voxel of weight 0 is ignored: it gets no gradient and its label may be anything.

    Args:
        normalization: ``"weights"`` divides by the sum of weights, as Caffe's weighted layer and the release do;
            ``"voxels"`` divides by the number of voxels; ``"none"`` gives the paper's E.

    Examples:
        >>> logits = torch.zeros(1, 2, 1, 4)  # two classes, undecided: every voxel costs ln 2
        >>> label, weight = torch.tensor([[[[0, 1, 1, 0]]]]), torch.tensor([[[[1.0, 11.0, 0.0, 0.0]]]])
        >>> [round(float(WeightedCrossEntropyLoss(n)(logits, label, weight)), 4) for n in ("weights", "voxels", "none")]
        [0.6931, 2.0794, 8.3178]
    """

    def __init__(self, normalization: Normalization = "weights") -> None:
        super().__init__()
        if normalization not in ("weights", "voxels", "none"):
            raise ValueError(f"normalization must be 'weights', 'voxels' or 'none', got {normalization!r}")
        self.normalization = normalization

    def forward(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """One number, differentiable in the logits; 0 where every weight is 0.

        Args:
            logits: (B, K, *spatial), raw scores.
            label: class indices, (B, 1, *spatial) or (B, *spatial), of any number type; or label and weight as
                the two channels of one (B, 2, *spatial) tensor, which is how a trainer passes them on.
            weight: (B, 1, *spatial) or (B, *spatial), 0 or more; 1 everywhere when absent.

        Raises:
            ValueError: for shapes that do not fit, or (on the CPU, where looking costs nothing) a label outside
                0 to K - 1 on a voxel with weight.
        """
        voxels = logits.shape[0] * logits.shape[2:].numel()
        label, weight = label_and_weight(logits, label, weight)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            seen = without_ignored(logits, weight)
            energy = (weight * F.cross_entropy(seen, label, reduction="none")).sum()
            if self.normalization == "weights":
                return energy / weight.sum().clamp_min(torch.finfo(torch.float32).tiny)
            return energy / voxels if self.normalization == "voxels" else energy
