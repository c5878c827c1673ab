"""The U-Net of Ronneberger, Fischer and Brox (arXiv:1505.04597) and of Cicek et al. (arXiv:1606.06650), one class."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from overtile.geometry import Geometry
from overtile.networks.layers import CONV, POOL, UP, check_axes, check_options, check_probabilities, he_initialise

Norm = Literal["batch", "instance", "group"]

_NORM: dict[tuple[str, int], type[nn.Module]] = {
    ("batch", 2): nn.BatchNorm2d,
    ("batch", 3): nn.BatchNorm3d,
    ("instance", 2): nn.InstanceNorm2d,
    ("instance", 3): nn.InstanceNorm3d,
}


class UNet(nn.Module):
    """U-Net whose defaults are the network of 2015: Figure 1, layer for layer, 31,030,658 parameters.

    Valid 3x3 convolutions with ReLU, 2x2 max-pooling, 2x2 up-convolutions, centre-cropped skips concatenated behind
    the up-convolution's channels, dropout at the end of the contracting path and a 1x1 head. Takes (B, C, *spatial),
    returns logits (B, K, *spatial less 92 voxels on each side); see :attr:`geometry`.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: classes K, background included.
        levels: number of 2x down-samplings; 4 in 2D (2015), 3 in 3D (2016).
        features: channels of the first convolution; doubled on every level.
        padding: ``"valid"`` as in the papers, or ``"same"`` for an output as large as the input.
        padding_mode: what a same-padded network pads with, ``"zeros"`` or ``"reflect"`` (mirrored).
        norm: normalisation between convolution and ReLU, ``"batch"`` (2016), ``"instance"``, ``"group"`` (groups of
            at most 8) or None (2015). Only None and ``"batch"`` keep tiled inference independent of the tile size.
        dropout: probability with which the outputs of the two lowest levels of the contracting path are dropped
            in training (0.5 in the release of 2015, before pooling and skip part; 2016 has none).
        up_relu: ReLU after each up-convolution, as in the releases; the papers do not mention one.
        top_up_features: channels of the topmost up-convolution; 128 in the release of 2015, by default as
            many as its level has.
        double_before_pool: the channel scheme of 2016: channels double *before* each pooling (32-64, 64-128, ...),
            up-convolutions keep their number of channels and have no bias.

    Raises:
        ValueError: for options outside these ranges.

    Examples:
        >>> def parameters(network): return sum(p.numel() for p in network.parameters())
        >>> parameters(UNet(2, in_channels=1, out_channels=2))  # 2015, as in the paper
        31030658
        >>> parameters(UNet(2, 1, 2, up_relu=True, top_up_features=128))  # 2015, as released (phseg_v5)
        31100354
        >>> cicek = UNet(3, 3, 3, levels=3, features=32, double_before_pool=True, dropout=0.0)
        >>> parameters(cicek)  # 2016, its batch norms' 4,672 scales and shifts not counted
        19069955
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 1,
        out_channels: int = 2,
        levels: int = 4,
        features: int = 64,
        *,
        padding: Literal["valid", "same"] = "valid",
        padding_mode: Literal["zeros", "reflect"] = "zeros",
        norm: Norm | None = None,
        dropout: float = 0.5,
        up_relu: bool = False,
        top_up_features: int | None = None,
        double_before_pool: bool = False,
    ) -> None:
        super().__init__()
        _check_options(spatial_dims, in_channels, out_channels, features, padding_mode, norm, dropout)
        self.geometry = Geometry(levels=levels, padding=padding)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.spatial_dims = spatial_dims
        self.padding_mode = padding_mode
        conv = _Convolutions(spatial_dims, padding == "same", padding_mode, norm)
        widths = [features * 2**level for level in range(levels + 1)]
        outs = [2 * width for width in widths] if double_before_pool else widths

        self.encoder = nn.ModuleList()
        channels = in_channels
        for level, (width, out) in enumerate(zip(widths, outs, strict=True)):
            drop = dropout if level >= levels - 1 else 0.0
            self.encoder.append(conv.double(channels, width, out, drop))
            channels = out
        self.pool = POOL[spatial_dims](2)
        self.ups = nn.ModuleList()  # lowest first, like the decoder: the order of the forward pass
        self.decoder = nn.ModuleList()
        for level in reversed(range(levels)):
            up = channels if double_before_pool else outs[level]
            if level == 0 and top_up_features is not None:
                up = top_up_features
            self.ups.append(conv.up(channels, up, bias=not double_before_pool, relu=up_relu))
            self.decoder.append(conv.double(up + outs[level], outs[level], outs[level], 0.0))
            channels = outs[level]
        self.head = CONV[spatial_dims](channels, out_channels, 1)
        self.apply(he_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, *spatial) for an image (B, C, *spatial) of a legal size.

        Raises:
            ValueError: for a wrong number of axes or channels, or a size that would lose voxels in a pooling.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            self._check_input(image)
        x = image
        skips: list[torch.Tensor] = []
        for level, block in enumerate(self.encoder):
            if level > 0:
                x = self.pool(x)
            x = block(x)
            skips.append(x)
        for depth, (up, block) in enumerate(zip(self.ups, self.decoder, strict=False)):
            x = up(x)
            x = block(torch.cat([x, centre_crop(skips[len(skips) - 2 - depth], x)], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits

    @torch.jit.unused
    def check_axes(self, image: torch.Tensor) -> None:
        """Raises a ValueError unless an image has the network's channels and spatial axes."""
        check_axes(image, self.spatial_dims, self.in_channels)

    @torch.jit.unused
    def _check_input(self, image: torch.Tensor) -> None:
        self.check_axes(image)
        for size in image.shape[2:]:
            self.geometry.output_size(int(size))
            if self.padding_mode == "reflect" and self.geometry.padding == "same" and size < 2 * self.geometry.step:
                raise ValueError(
                    f"mirror padding on the lowest level needs at least {2 * self.geometry.step} voxels per axis, "
                    f"got {tuple(image.shape[2:])}"
                )


class _Convolutions:
    """Building blocks that share one network's dimension, padding and normalisation."""

    def __init__(self, spatial_dims: int, same: bool, padding_mode: str, norm: Norm | None) -> None:
        self.spatial_dims = spatial_dims
        self.same = same
        self.padding_mode = padding_mode
        self.norm = norm

    def double(self, channels: int, middle: int, out: int, dropout: float) -> nn.Sequential:
        layers = [*self._conv_relu(channels, middle), *self._conv_relu(middle, out)]
        if dropout > 0:
            layers.append(nn.Dropout(dropout))
        return nn.Sequential(*layers)

    def up(self, channels: int, out: int, *, bias: bool, relu: bool) -> nn.Sequential:
        layers: list[nn.Module] = [UP[self.spatial_dims](channels, out, kernel_size=2, stride=2, bias=bias)]
        if relu:
            layers.append(nn.ReLU(inplace=True))
        return nn.Sequential(*layers)

    def _conv_relu(self, channels: int, out: int) -> list[nn.Module]:
        conv = CONV[self.spatial_dims](
            channels, out, 3, padding=1 if self.same else 0, padding_mode=self.padding_mode if self.same else "zeros"
        )
        return [conv, *self._norm(out), nn.ReLU(inplace=True)]

    def _norm(self, channels: int) -> list[nn.Module]:
        if self.norm is None:
            return []
        if self.norm == "group":
            return [nn.GroupNorm(math.gcd(channels, 8), channels)]
        return [_NORM[self.norm, self.spatial_dims](channels, affine=True)]


def centre_crop(skip: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """The centre of ``skip`` at the spatial size of ``like``: 4, 16, 40 and 88 voxels less per side in Figure 1."""
    for axis in range(2, like.dim()):
        extra = skip.size(axis) - like.size(axis)
        skip = skip.narrow(axis, extra // 2, like.size(axis))
    return skip


def _check_options(
    spatial_dims: int,
    in_channels: int,
    out_channels: int,
    features: int,
    padding_mode: str,
    norm: str | None,
    dropout: float,
) -> None:
    check_options(spatial_dims)
    if min(in_channels, out_channels, features) < 1:
        raise ValueError(
            "in_channels, out_channels and features must be at least 1, "
            f"got {in_channels}, {out_channels} and {features}"
        )
    if padding_mode not in ("zeros", "reflect"):
        raise ValueError(f"padding_mode must be 'zeros' or 'reflect', got {padding_mode!r}")
    if norm not in (None, "batch", "instance", "group"):
        raise ValueError(f"norm must be None, 'batch', 'instance' or 'group', got {norm!r}")
    check_probabilities(dropout=dropout)
