"""What a loss is given besides logits: label and weight of every voxel, in one tensor or in two."""

from __future__ import annotations

import torch


def label_and_weight(
    logits: torch.Tensor, label: torch.Tensor, weight: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Class indices, 0 where a voxel is ignored, and weights in float32: both (B, *spatial), on the logits' device.

    Args:
        logits: (B, K, *spatial).
        label: class indices, (B, 1, *spatial) or (B, *spatial), of any number type; or label and weight as
            the two channels of one (B, 2, *spatial) tensor, which is how a trainer passes them on.
        weight: (B, 1, *spatial) or (B, *spatial), 0 or more; 1 everywhere when absent.

    Raises:
        ValueError: for shapes that do not fit, or (on the CPU, where looking costs nothing) a label outside
            0 to K - 1 on a voxel with weight.
    """
    if weight is None and label.ndim == logits.ndim and label.shape[1] == 2:
        label, weight = label[:, :1], label[:, 1:]
    label = _without_channel(label, logits, "label").long()
    if weight is None:
        weight = torch.ones(label.shape, device=logits.device)
    weight = _without_channel(weight, logits, "weight").to(device=logits.device, dtype=torch.float32)
    label = torch.where(weight > 0, label.to(logits.device), 0)
    _check_classes(label, logits.shape[1])
    return label, weight


def without_ignored(logits: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Logits in float32, 0 where the weight is 0: no gradient goes there, not even from infinities.

    Args:
        logits: (B, K, *spatial).
        weight: (B, *spatial).
    """
    return torch.where((weight > 0).unsqueeze(1), logits.float(), 0.0)


def _without_channel(tensor: torch.Tensor, logits: torch.Tensor, name: str) -> torch.Tensor:
    """``tensor`` as (B, *spatial), checked against the logits."""
    wanted = (logits.shape[0], *logits.shape[2:])
    if tensor.ndim == logits.ndim and tensor.shape[1] == 1:
        tensor = tensor[:, 0]
    if tuple(tensor.shape) != wanted:
        raise ValueError(
            f"{name} must have one value per voxel of the logits {tuple(logits.shape)}, that is "
            f"{(wanted[0], 1, *wanted[1:])} or {wanted}, got {tuple(tensor.shape)}; "
            "crop it to the write window if the network is a valid one"
        )
    return tensor


def _check_classes(label: torch.Tensor, classes: int) -> None:
    if label.device.type != "cpu" or label.numel() == 0:
        return  # looking at values on a GPU would wait for it; its own assertion guards the index there
    low, high = int(label.min()), int(label.max())
    if low < 0 or high >= classes:
        raise ValueError(
            f"labels are class indices 0 to {classes - 1} for {classes} classes, got values from {low} to {high}; "
            "give unlabelled voxels weight 0, binarise instance maps"
        )
