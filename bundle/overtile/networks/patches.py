"""Tokens of patches, and how four become one and one becomes several (Swin-UNet, arXiv:2105.05537)."""

from __future__ import annotations

import torch
from torch import nn


class PatchEmbedding(nn.Module):
    """A token for each patch of the image: a linear map of its voxels, normalised.

    Args:
        channels: of the image.
        out: channels of a token.
        patch: voxels per axis of a patch.
    """

    def __init__(self, channels: int, out: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, out, patch, stride=patch)
        self.norm = nn.LayerNorm(out)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Tokens (B, H / patch, W / patch, out) for an image (B, C, H, W)."""
        tokens: torch.Tensor = self.norm(self.proj(image).permute(0, 2, 3, 1))
        return tokens


class PatchMerging(nn.Module):
    """One token for each 2 x 2 tokens: their channels side by side (the first column's first), normalised, halved.

    Args:
        channels: of a token; one that comes out has twice as many.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(4 * channels)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, H / 2, W / 2, 2 C) for tokens (B, H, W, C)."""
        blocks = torch.unflatten(torch.unflatten(tokens, 2, (-1, 2)), 1, (-1, 2))  # B, H / 2, y, W / 2, x, C
        merged: torch.Tensor = self.reduction(self.norm(blocks.permute(0, 1, 3, 4, 2, 5).flatten(3)))
        return merged


class PatchExpanding(nn.Module):
    """A block of tokens for each: more channels by a linear map, laid side by side row by row, then normalised.

    Args:
        channels: of a token.
        out: channels of a token that comes out.
        factor: tokens per axis that come out for one.
    """

    def __init__(self, channels: int, out: int, factor: int = 2) -> None:
        super().__init__()
        self.factor = factor
        self.expand = nn.Linear(channels, factor**2 * out, bias=False)
        self.norm = nn.LayerNorm(out)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (B, factor * H, factor * W, out) for tokens (B, H, W, C)."""
        blocks = torch.unflatten(self.expand(tokens), 3, (self.factor, self.factor, -1))  # B, H, W, y, x, out
        expanded: torch.Tensor = self.norm(blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2))
        return expanded
