"""MultiResUNet (Ibtehaz and Rahman, arXiv:1902.04049): a U-Net of residual blocks with several scales."""

from __future__ import annotations

import torch
from torch import nn

from overtile.geometry import Geometry, margin
from overtile.networks.layers import BATCH_NORM, CONV, POOL, UP, check_axes, check_options

# Keras' batch norm, which the authors used; its momentum is that of the average, PyTorch's that of the new value
_EPS = 1e-3
_MOMENTUM = 0.01


class MultiResUNet(nn.Module):
    """MultiResUNet as in its authors' Keras code: 7,238,228 trainable parameters, 18,633,167 in 3D with four channels.

    (Keras, which counts moving averages, says 7,262,750 and 18,657,689.) A :class:`MultiResBlock` on every level, 2x
    max-pooling and up-convolutions, a :class:`ResPath` in every skip. Takes (B, C, *spatial) of multiples of
    ``2**levels``, returns logits (B, K, *spatial).

    With one output channel the head is the authors', less its sigmoid: 1x1 convolution, then batch norm without scale.
    With more it is a 1x1 convolution with bias, for a soft-max: **ours**, since the norm would hold every class to a
    variance of 1, so that no probability could come close to 0 and to 1. Both have as many trainable parameters.

    Its convolutions reach further than those of a U-Net with as many levels, 153 voxels to one side for four; so the
    margin of its :attr:`geometry` is 160. Weights begin as Keras' do: Glorot's uniform, biases 0.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        out_channels: 1 for one logit per voxel, else classes K, background included.
        features: U of the first level; doubled on every level.
        alpha: a block of U has about ``alpha * U`` channels.
        levels: number of 2x down-samplings; the skip of the first level has a path of as many units.

    Raises:
        ValueError: for options outside these ranges, or so few features that a convolution would have no channel.

    Examples:
        >>> sum(p.numel() for p in MultiResUNet().parameters())
        7238228
        >>> network = MultiResUNet(3, in_channels=1, out_channels=2, features=4, levels=2).eval()
        >>> tuple(network(torch.rand(1, 1, 8, 8, 12)).shape), network.geometry.margin
        ((1, 2, 8, 8, 12), 36)
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 1,
        features: int = 32,
        alpha: float = 1.67,
        levels: int = 4,
    ) -> None:
        super().__init__()
        check_options(spatial_dims, in_channels=in_channels, out_channels=out_channels, features=features)
        self.geometry = _geometry(levels)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.out_channels = out_channels
        widths = [features * 2**level for level in range(levels)]

        self.encoder = nn.ModuleList()
        self.paths = nn.ModuleList()
        channels = in_channels
        for level, width in enumerate(widths):
            block = MultiResBlock(spatial_dims, channels, width, alpha)
            channels = block.out_channels
            self.encoder.append(block)
            self.paths.append(ResPath(spatial_dims, channels, width, length=levels - level))
        self.pool = POOL[spatial_dims](2)
        self.bottom = MultiResBlock(spatial_dims, channels, features * 2**levels, alpha)
        channels = self.bottom.out_channels
        self.ups = nn.ModuleList()  # lowest first, like the decoder: the order of the forward pass
        self.decoder = nn.ModuleList()
        for width in reversed(widths):
            self.ups.append(UP[spatial_dims](channels, width, kernel_size=2, stride=2))
            block = MultiResBlock(spatial_dims, 2 * width, width, alpha)
            channels = block.out_channels
            self.decoder.append(block)
        if out_channels == 1:
            self.head: nn.Module = _conv_norm(spatial_dims, channels, 1, kernel=1)
        else:
            self.head = CONV[spatial_dims](channels, out_channels, 1)
        self.apply(_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, *spatial) for an image (B, C, *spatial) whose sizes are multiples of ``2**levels``.

        Raises:
            ValueError: for a wrong number of axes or channels, or a size that would lose voxels in a pooling.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            self._check_input(image)
        x = image
        skips: list[torch.Tensor] = []
        for block, path in zip(self.encoder, self.paths, strict=False):
            x = block(x)
            skips.append(path(x))
            x = self.pool(x)
        x = self.bottom(x)
        for depth, (up, block) in enumerate(zip(self.ups, self.decoder, strict=False)):
            x = block(torch.cat([up(x), skips[len(skips) - 1 - depth]], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits

    @torch.jit.unused
    def _check_input(self, image: torch.Tensor) -> None:
        check_axes(image, self.spatial_dims, self.in_channels)
        for size in image.shape[2:]:
            self.geometry.output_size(int(size))


class MultiResBlock(nn.Module):
    """Three 3x3 convolutions in a row, joined for fields of 3, 5 and 7 voxels, beside a 1x1 shortcut.

    Takes (B, C, *spatial), returns (B, :attr:`out_channels`, *spatial).

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        width: U, channels of a U-Net's convolution in this place.
        alpha: the three have ``int(0.167 * W)``, ``int(0.333 * W)`` and ``int(0.5 * W)`` channels, W = alpha * U.

    Raises:
        ValueError: if one of them would have none.
    """

    def __init__(self, spatial_dims: int, in_channels: int, width: int, alpha: float) -> None:
        super().__init__()
        total = alpha * width
        widths = [int(total * share) for share in (0.167, 0.333, 0.5)]
        if min(widths) < 1:
            raise ValueError(
                f"0.167 * alpha * features must be at least 1, so that every convolution has a channel; got alpha "
                f"{alpha} and {width} features"
            )
        self.out_channels = sum(widths)
        self.shortcut = _conv_norm(spatial_dims, in_channels, self.out_channels, kernel=1)
        self.convs = nn.ModuleList()
        channels = in_channels
        for out in widths:
            self.convs.append(_conv_norm_relu(spatial_dims, channels, out))
            channels = out
        self.joined_norm = _norm(spatial_dims, self.out_channels)
        self.norm = _norm(spatial_dims, self.out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The three convolutions and the shortcut, added."""
        parts: list[torch.Tensor] = []
        y = x
        for conv in self.convs:
            y = conv(y)
            parts.append(y)
        joined = self.joined_norm(torch.cat(parts, dim=1))
        out: torch.Tensor = self.norm(torch.relu(self.shortcut(x) + joined))
        return out


class ResPath(nn.Module):
    """Residual 3x3 convolutions in a skip: what goes over it should not be much less processed than what it meets.

    Takes (B, C, *spatial), returns (B, ``width``, *spatial).

    Args:
        spatial_dims: 2 or 3.
        in_channels: C.
        width: channels of its convolutions.
        length: number of 3x3 convolutions, each beside a 1x1 shortcut.
    """

    def __init__(self, spatial_dims: int, in_channels: int, width: int, length: int) -> None:
        super().__init__()
        self.convs, self.shortcuts, self.norms = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for channels in [in_channels, *[width] * (length - 1)]:
            self.convs.append(_conv_norm_relu(spatial_dims, channels, width))
            self.shortcuts.append(_conv_norm(spatial_dims, channels, width, kernel=1))
            self.norms.append(_norm(spatial_dims, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """All convolutions, each added to its shortcut."""
        for conv, shortcut, norm in zip(self.convs, self.shortcuts, self.norms, strict=False):
            x = norm(torch.relu(shortcut(x) + conv(x)))
        return x


def _geometry(levels: int) -> Geometry:
    """A U-Net's with three convolutions per level: the paths reach less far than the levels below them."""
    step = Geometry(levels, "same").step
    reach = margin(levels, convs=3) + step - 1
    return Geometry(levels, "same", margin=-(-reach // step) * step)


def _norm(spatial_dims: int, channels: int, scale: bool = True) -> nn.Module:
    """Batch norm, or one that shifts but does not scale (``scale=False`` of Keras), which PyTorch has no option for."""
    norm = BATCH_NORM[spatial_dims](channels, eps=_EPS, momentum=_MOMENTUM, affine=scale)
    if not scale:
        norm.bias = nn.Parameter(torch.zeros(channels))
    return norm


def _conv_norm(spatial_dims: int, channels: int, out: int, kernel: int) -> nn.Sequential:
    conv = CONV[spatial_dims](channels, out, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, _norm(spatial_dims, out, scale=False))


def _conv_norm_relu(spatial_dims: int, channels: int, out: int) -> nn.Sequential:
    return nn.Sequential(*_conv_norm(spatial_dims, channels, out, kernel=3), nn.ReLU(inplace=True))


def _initialise(module: nn.Module) -> None:
    """Keras' default: Glorot's uniform weights, biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
