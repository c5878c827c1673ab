"""The soft Dice loss as nnU-Net has it (doi:10.1038/s41592-020-01008-z), and its sum with the cross entropy."""

from __future__ import annotations

import torch
from torch import nn

from overtile.losses.cross_entropy import Normalization, WeightedCrossEntropyLoss
from overtile.losses.targets import label_and_weight, without_ignored


class SoftDiceLoss(nn.Module):
    """One minus the mean Dice of the foreground classes, 1 - mean_k (2 sum p_k t_k + s) / (sum p_k + sum t_k + s).

    p_k is the soft-max probability of class k in 1 to K - 1 and t_k its truth, 0 or 1. A weight says only whether a
    voxel counts: where it is 0, neither probability nor truth is in a sum. Computed in float32 whatever the logits'
    type. MONAI's ``MaskedDiceLoss`` is the same where all is finite; it multiplies by its mask, and not a number times
    0 stays none.

    Args:
        batch: sum over the images of a batch before dividing, so that a class need not be in each of them; nnU-Net
            does so in 2D, and in 3D where a volume is much larger than its windows.
        smooth: s; a class that is nowhere, neither in truth nor in the prediction, has Dice 1.

    Examples:
        >>> logits = torch.zeros(1, 2, 1, 4)  # two classes, undecided: 2 * 0.5 / (4 * 0.5 + 1)
        >>> label, weight = torch.tensor([[[[0, 1, 0, 0]]]]), torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
        >>> [round(float(SoftDiceLoss()(logits, label, w)), 4) for w in (None, weight)]
        [0.6667, 0.5]
    """

    def __init__(self, batch: bool = False, smooth: float = 1e-5) -> None:
        super().__init__()
        self.batch = batch
        self.smooth = smooth

    def forward(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """One number from 0 to 1, differentiable in the logits; 0 where every weight is 0.

        Args:
            logits: (B, K, *spatial), raw scores of two or more classes.
            label: as for :class:`WeightedCrossEntropyLoss`, also with the weight as its second channel.
            weight: (B, 1, *spatial) or (B, *spatial); all voxels count when absent.

        Raises:
            ValueError: for a single class, and as for :class:`WeightedCrossEntropyLoss`.
        """
        classes = logits.shape[1]
        if classes < 2:
            raise ValueError(f"Dice is of the classes behind the background: give 2 or more channels, got {classes}")
        label, weight = label_and_weight(logits, label, weight)
        with torch.autocast(device_type=logits.device.type, enabled=False):
            counts = (weight > 0).unsqueeze(1)
            probability = without_ignored(logits, weight).softmax(dim=1)[:, 1:] * counts
            numbers = torch.arange(1, classes, device=label.device).view(-1, *[1] * (label.ndim - 1))
            truth = (label.unsqueeze(1) == numbers).float()  # an ignored voxel's label is 0
            axes = [*([0] if self.batch else []), *range(2, logits.ndim)]
            shared = (probability * truth).sum(axes)
            dice = (2 * shared + self.smooth) / (probability.sum(axes) + truth.sum(axes) + self.smooth)
            return 1 - dice.mean()


class DiceCrossEntropyLoss(nn.Module):
    """Soft Dice plus weighted cross entropy, one to one.

    nnU-Net's cross entropy counts all voxels alike; here weights, which separate touching instances, are in it, and
    with weights of 0 and 1 it is nnU-Net's. Dice takes no weights in either.

    Args:
        normalization: of :class:`WeightedCrossEntropyLoss`.
        batch: of :class:`SoftDiceLoss`.
    """

    def __init__(self, normalization: Normalization = "weights", batch: bool = False) -> None:
        super().__init__()
        self.cross_entropy = WeightedCrossEntropyLoss(normalization)
        self.dice = SoftDiceLoss(batch)

    def forward(self, logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
        """One number; arguments and errors are those of :class:`SoftDiceLoss`."""
        loss: torch.Tensor = self.cross_entropy(logits, label, weight) + self.dice(logits, label, weight)
        return loss
