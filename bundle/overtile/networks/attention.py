"""What transformers are made of: self-attention and the two dense layers behind it (arXiv:1706.03762)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def attend(qkv: torch.Tensor, heads: int, bias: torch.Tensor | None = None) -> torch.Tensor:
    """What each token gathers from the others: softmax(q k^T / sqrt(d) + bias) v, for each head, heads side by side.

    Args:
        qkv: queries, keys and values side by side, (..., tokens, 3 C); each head has d = C / heads of each.
        heads: number of heads, a divisor of C.
        bias: added before the soft-max, broadcast to (..., heads, tokens, tokens); minus infinity where no token may
            look.

    Returns:
        (..., tokens, C).

    Examples:
        >>> alike = torch.ones(1, 5, 3 * 4)  # equal keys: everyone gets the mean of all values
        >>> attend(alike, heads=2).unique()
        tensor([1.])
    """
    q, k, v = (torch.unflatten(part, -1, (heads, -1)).transpose(-3, -2) for part in qkv.chunk(3, dim=-1))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias).transpose(-3, -2).flatten(-2)


class FeedForward(nn.Module):
    """Two dense layers, applied to each token, with a GELU between them and dropout behind both.

    Args:
        channels: of the tokens.
        hidden: between the layers.
        dropout: probability in training.
    """

    def __init__(self, channels: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Tokens (..., C) for tokens (..., C)."""
        hidden = self.drop(self.act(self.fc1(tokens)))
        out: torch.Tensor = self.drop(self.fc2(hidden))
        return out
