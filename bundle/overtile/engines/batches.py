"""From a batch of the data loader to what network and loss take."""

from __future__ import annotations

from typing import Any

import torch
from monai.data import MetaTensor
from monai.engines import PrepareBatch


class PrepareWeightedBatch(PrepareBatch):
    """Image (B, C, *read) and, as the two channels of one target (B, 2, *write), label and weight.

    :class:`overtile.losses.WeightedCrossEntropyLoss` takes the target apart again.

    Args:
        image_key: the network's input.
        label_key: class indices.
        weight_key: weight of every voxel.
    """

    def __init__(self, image_key: str = "image", label_key: str = "label", weight_key: str = "weight") -> None:
        self.image_key = image_key
        self.label_key = label_key
        self.weight_key = weight_key

    def __call__(
        self,
        batchdata: dict[str, torch.Tensor],
        device: str | torch.device | None = None,
        non_blocking: bool = False,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The pair that MONAI's trainer passes to network and loss."""
        label, weight = _plain(batchdata[self.label_key]), _plain(batchdata[self.weight_key])
        target = torch.cat([label.to(weight.dtype), weight], dim=1)
        image = _plain(batchdata[self.image_key])
        return (
            image.to(device=device, non_blocking=non_blocking, **kwargs),
            target.to(device=device, non_blocking=non_blocking, **kwargs),
        )


StepOutput = dict[str, Any] | list[dict[str, Any]]  # of a training step, as it is or decollated into samples


def step_loss(output: StepOutput) -> float:
    """The loss of a training step, for handlers that write it down."""
    first = output[0] if isinstance(output, list) else output
    return float(first["loss"])  # a number already where the step is decollated


def step_images(output: StepOutput) -> torch.Tensor:
    """What the network got in a training step, (B, C, *read)."""
    images = torch.stack([sample["image"] for sample in output]) if isinstance(output, list) else output["image"]
    return images.detach()


def _plain(tensor: torch.Tensor) -> torch.Tensor:
    """Without meta data: a training step has no use for it and would carry it through every layer."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor
