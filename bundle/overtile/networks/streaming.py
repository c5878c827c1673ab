"""One pass of a U-Net over an image of any length: rows go in, rows come out, and nothing is computed twice.

Every layer is a generator that draws rows from the layer before it and keeps only those it still needs: two for a 3x3
convolution, an odd one for a pooling, and for a skip connection those that wait for the deeper levels. So memory
depends on how many rows are drawn at once and not on the length of the image, and the result is that of one pass.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from overtile.geometry import margin
from overtile.networks.unet import UNet, centre_crop

_POINTWISE = (nn.ReLU, nn.Dropout, _BatchNorm)


def can_stream(network: object) -> bool:
    """Whether :func:`stream` can run a network: a :class:`UNet` of whose layers each knows its rows' neighbours only.

    Instance and group norm take their statistics from the whole input, as batch norm and dropout in training mode do.
    """
    if not isinstance(network, UNet) or network.training:
        return False
    if any(module._forward_hooks or module._forward_pre_hooks for module in network.modules()):
        return False  # they expect a pass
    blocks = [layer for block in (*network.encoder, *network.decoder) for layer in block]
    return all(isinstance(layer, (nn.Conv2d, nn.Conv3d, *_POINTWISE)) and not layer.training for layer in blocks)


def stream(network: UNet, strips: Iterable[torch.Tensor], axis: int = 0) -> Iterator[torch.Tensor]:
    """Logits of one pass over all strips together, in pieces, each as soon as its rows are known.

    Args:
        network: one that :func:`can_stream`, in evaluation mode.
        strips: consecutive parts (B, C, *spatial) of an image along ``axis``, together of a legal size; drawn one by
            one.
        axis: the spatial axis along which the image is cut.

    Yields:
        Consecutive parts of the logits (B, K, *spatial) along ``axis``, at least one row each.

    Raises:
        ValueError: for a network that cannot be streamed, or strips with another number of axes or channels.

    Examples:
        >>> network = UNet(levels=2, features=2).eval()
        >>> image = torch.rand(1, 1, 84, 44)
        >>> with torch.no_grad():
        ...     streamed = torch.cat(list(stream(network, image.split(16, dim=2))), dim=2)
        ...     torch.testing.assert_close(streamed, network(image))
    """
    if not can_stream(network):
        raise ValueError(
            "only a UNet without instance or group norm, in evaluation mode and without hooks, can be streamed; "
            "OverlapTileInferer computes others tile by tile"
        )
    yield from _mapped(_level(network, _checked(network, strips), 0, axis + 2), network.head, axis + 2)


def _checked(network: UNet, strips: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for strip in strips:
        network.check_axes(strip)
        yield strip


class _Rows:
    """Rows that a layer has drawn from the one before it and still needs.

    No generator here keeps rows in a variable of its own while it waits: they would stay in memory.
    """

    def __init__(self, source: Iterator[torch.Tensor], dim: int) -> None:
        self.source = source
        self.dim = dim
        self.count = 0
        self.chunks: deque[torch.Tensor] = deque()

    def has(self, count: int) -> bool:
        """Draws until there are ``count`` rows, or no more."""
        while self.count < count:
            chunk = next(self.source, None)
            if chunk is None:
                return False
            self.push(chunk)
        return True

    def push(self, chunk: torch.Tensor) -> None:
        self.chunks.append(chunk)
        self.count += chunk.shape[self.dim]

    def take(self, count: int | None = None, keep: int = 0) -> torch.Tensor:
        """The first ``count`` rows, or all; the last ``keep`` of them are kept for the next time."""
        wanted = self.count if count is None else count
        parts: list[torch.Tensor] = []
        missing = wanted
        while missing:
            chunk = self.chunks.popleft()
            size = chunk.shape[self.dim]
            if size > missing:
                self.chunks.appendleft(chunk.narrow(self.dim, missing, size - missing))
                chunk = chunk.narrow(self.dim, 0, missing)
            parts.append(chunk)
            missing -= chunk.shape[self.dim]
        rows = parts[0] if len(parts) == 1 else torch.cat(parts, self.dim)
        if keep:
            self.chunks.appendleft(rows.narrow(self.dim, wanted - keep, keep).clone())
        self.count -= wanted - keep
        return rows


def _level(network: UNet, rows: Iterator[torch.Tensor], level: int, dim: int) -> Iterator[torch.Tensor]:
    """What comes out of a level for what goes in: its own convolutions, and all below it."""
    rows = _block(network, network.encoder[level], rows, dim)
    levels = network.geometry.levels
    if level == levels:
        return rows
    skip = _Rows(iter(()), dim)
    below = _level(network, _pooled(_remembered(rows, skip), network.pool, dim), level + 1, dim)
    ups = _mapped(below, network.ups[levels - 1 - level], dim)
    # Figure 1 of the paper: 4, 16, 40 and 88 rows per side, from the lowest skip to the highest
    crop = 0 if network.geometry.padding == "same" else margin(levels - level) - 2 * margin(0)
    return _block(network, network.decoder[levels - 1 - level], _joined(_Rows(ups, dim), skip, crop), dim)


def _block(network: UNet, block: nn.Module, rows: Iterator[torch.Tensor], dim: int) -> Iterator[torch.Tensor]:
    """Two convolutions, each with what follows it: norm, ReLU, dropout."""
    layers = list(block.children())
    convs = [place for place, layer in enumerate(layers) if isinstance(layer, (nn.Conv2d, nn.Conv3d))]
    for place, following in zip(convs, [*convs[1:], len(layers)], strict=True):
        steps = layers[place:following]
        if network.geometry.padding == "same":
            mode = "reflect" if network.padding_mode == "reflect" else "constant"
            rows = _with_ends(rows, mode, dim)
            steps[0] = _Sideways(cast(nn.Conv2d, steps[0]), mode, dim)
        rows = _convolved(rows, nn.Sequential(*steps), dim)
    return rows


def _convolved(source: Iterator[torch.Tensor], layers: nn.Module, dim: int) -> Iterator[torch.Tensor]:
    rows = _Rows(source, dim)
    while rows.has(3):
        yield layers(rows.take(keep=2))


def _pooled(source: Iterator[torch.Tensor], pool: nn.Module, dim: int) -> Iterator[torch.Tensor]:
    rows = _Rows(source, dim)
    while rows.has(2):
        yield pool(rows.take(rows.count // 2 * 2))


def _mapped(source: Iterator[torch.Tensor], layer: nn.Module, dim: int) -> Iterator[torch.Tensor]:
    rows = _Rows(source, dim)
    while rows.has(1):
        yield layer(rows.take())


def _remembered(source: Iterator[torch.Tensor], skip: _Rows) -> Iterator[torch.Tensor]:
    """Hands rows on and keeps them for the skip connection."""
    rows = _Rows(source, skip.dim)
    while rows.has(1):
        skip.push(rows.take())
        yield skip.chunks[-1]


def _joined(ups: _Rows, skip: _Rows, crop: int) -> Iterator[torch.Tensor]:
    """Rows from below beside those of the skip connection, whose first ``crop`` rows nothing meets."""
    if ups.has(1) and crop:
        skip.take(crop)
    while ups.has(1):
        yield _beside(ups.take(), skip)


def _beside(rows: torch.Tensor, skip: _Rows) -> torch.Tensor:
    return torch.cat([rows, centre_crop(skip.take(rows.shape[skip.dim]), rows)], dim=1)


def _with_ends(source: Iterator[torch.Tensor], mode: str, dim: int) -> Iterator[torch.Tensor]:
    """The rows between the two that a same-padded convolution puts at the ends."""
    rows = _Rows(source, dim)
    rows.has(2)
    yield _end(rows.take(min(rows.count, 2), keep=min(rows.count, 2)), 1, mode, dim)
    while rows.has(3):
        yield rows.take(rows.count - 2)
    last = rows.take()
    yield last
    yield _end(last, -2, mode, dim)


def _end(rows: torch.Tensor, neighbour: int, mode: str, dim: int) -> torch.Tensor:
    """A row beyond the end: zeros, or the one that mirrors there."""
    if mode == "constant":
        return torch.zeros_like(rows.narrow(dim, 0, 1))
    return rows.narrow(dim, neighbour % rows.shape[dim], 1).clone()


class _Sideways(nn.Module):
    """A same-padded convolution that pads all spatial axes but one."""

    def __init__(self, conv: nn.Conv2d | nn.Conv3d, mode: str, dim: int) -> None:
        super().__init__()
        self.conv = conv
        self.mode = mode
        self.dim = dim

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        pads = [0 if axis == self.dim else 1 for axis in reversed(range(2, rows.ndim)) for _ in range(2)]
        padded = F.pad(rows, pads, mode=self.mode)  # the last axis first
        convolve = F.conv2d if rows.ndim == 4 else F.conv3d
        return convolve(padded, self.conv.weight, self.conv.bias)
