"""Attention within windows, and within shifted ones (Swin Transformer, arXiv:2103.14030)."""

from __future__ import annotations

import torch
from torch import nn

from overtile.networks.attention import attend


class WindowAttention(nn.Module):
    """Self-attention of the tokens of each window, with a learnt bias for every offset between two of them.

    Shifted windows are the same windows on the map rolled by half a window. Those at its end then hold tokens from
    opposite borders, which do not see each other.

    Args:
        channels: of a token.
        heads: a divisor of ``channels``.
        size: tokens of the map per axis: a multiple of ``window``, or no more than it, then the map is one window.
        window: tokens of a window per axis.
        shifted: whether windows are shifted; one that holds the whole map is not.

    Examples:
        >>> attention = WindowAttention(channels=8, heads=2, size=8, window=4, shifted=True)
        >>> attention(torch.rand(3, 8, 8, 8)).shape
        torch.Size([3, 8, 8, 8])
    """

    bias_index: torch.Tensor
    mask: torch.Tensor | None

    def __init__(self, channels: int, heads: int, size: int, window: int, shifted: bool) -> None:
        super().__init__()
        self.heads = heads
        self.size = size
        self.window = min(window, size)
        self.shift = window // 2 if shifted and size > window else 0
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * self.window - 1) ** 2, heads))
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.register_buffer("bias_index", _offsets(self.window), persistent=False)
        mask = _separated(size, self.window, self.shift) if self.shift else None
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """What each token gathers, (B, size, size, C), for tokens of that shape."""
        rolled = tokens.roll((-self.shift, -self.shift), dims=(1, 2)) if self.shift else tokens
        bias = self.relative_position_bias_table[self.bias_index].permute(2, 0, 1)
        if self.mask is not None:
            bias = bias + self.mask
        gathered = self.proj(attend(self.qkv(in_windows(rolled, self.window)), self.heads, bias))
        whole = of_windows(gathered, self.window, self.size)
        return whole.roll((self.shift, self.shift), dims=(1, 2)) if self.shift else whole


def in_windows(tokens: torch.Tensor, window: int) -> torch.Tensor:
    """Tokens window by window, (B, windows, window^2, C), for a map (B, size, size, C).

    Examples:
        >>> in_windows(torch.arange(16).reshape(1, 4, 4, 1), 2)[0, 1, :, 0]  # top right
        tensor([2, 3, 6, 7])
    """
    cut = torch.unflatten(torch.unflatten(tokens, 2, (-1, window)), 1, (-1, window))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def of_windows(windows: torch.Tensor, window: int, size: int) -> torch.Tensor:
    """The map (B, size, size, C) of tokens window by window; undoes :func:`in_windows`."""
    side = size // window
    cut = torch.unflatten(torch.unflatten(windows, 2, (window, window)), 1, (side, side))
    return cut.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def _offsets(window: int) -> torch.Tensor:
    """For two tokens of a window the number of the offset between them, (window^2, window^2)."""
    axis = torch.arange(window)
    row, column = axis.repeat_interleave(window), axis.repeat(window)
    rows, columns = (place[:, None] - place + window - 1 for place in (row, column))
    return rows * (2 * window - 1) + columns


def _separated(size: int, window: int, shift: int) -> torch.Tensor:
    """0 where two tokens of a rolled map's window may see each other, else minus infinity: (windows, 1, n, n)."""
    wrapped = torch.arange(size) >= size - shift  # tokens that the roll brought here from the other border
    region = in_windows((2 * wrapped[:, None].int() + wrapped.int())[None, :, :, None], window).squeeze(3)[0]
    apart = region[:, None, :, None] != region[:, None, None, :]
    return torch.zeros(apart.shape).masked_fill(apart, float("-inf"))
