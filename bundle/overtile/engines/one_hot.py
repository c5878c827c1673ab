"""Class indices as MONAI's handlers want them where they have no ``num_classes``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.handlers import from_engine
from monai.networks import one_hot


class OneHotFromEngine:
    """``output_transform`` for handlers such as ``HausdorffDistance``: index maps as one-hot channels.

    Args:
        num_classes: background included.
        keys: prediction and truth, each (1, *spatial) of class indices.
    """

    def __init__(self, num_classes: int, keys: Sequence[str] = ("pred", "label")) -> None:
        self.num_classes = num_classes
        self.keys = tuple(keys)

    def __call__(self, output: Any) -> tuple[list[torch.Tensor], ...]:
        """One list of (num_classes, *spatial) per key, one entry per image."""
        return tuple(
            [one_hot(index, self.num_classes, dim=0) for index in indices] for indices in from_engine(self.keys)(output)
        )
