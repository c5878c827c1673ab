"""Class indices as MONAI's handlers want them where they have no ``num_classes``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.handlers import from_engine
from monai.networks import one_hot


class OneHotFromEngine:
    """``output_transform`` for handlers such as ``HausdorffDistance``: index maps as one-hot channels.

    Where ``weight_key`` is in the engine's output, voxels of weight 0 (no ground truth) belong to no class at all.

    Args:
        num_classes: background included.
        keys: prediction and truth, each (1, *spatial) of class indices.
        weight_key: weight of every voxel.
    """

    def __init__(
        self, num_classes: int, keys: Sequence[str] = ("pred", "label"), weight_key: str | None = "weight"
    ) -> None:
        self.num_classes = num_classes
        self.keys = tuple(keys)
        self.weight_key = weight_key

    def __call__(self, output: Any) -> tuple[list[torch.Tensor], ...]:
        """One list of (num_classes, *spatial) per key, one entry per image."""
        weighted = self.weight_key is not None and self.weight_key in output[0]
        known = [item[self.weight_key] > 0 if weighted else 1 for item in output]
        return tuple(
            [one_hot(index, self.num_classes, dim=0) * mask for index, mask in zip(indices, known, strict=True)]
            for indices in from_engine(self.keys)(output)
        )
