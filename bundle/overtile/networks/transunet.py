"""TransUNet (arXiv:2102.04306): a ResNet, a vision transformer on its coarsest map, and a U-Net's way up."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

from overtile.networks.attention import FeedForward, attend
from overtile.networks.fixed_size import accepted, fixed_geometry, stem_channels
from overtile.networks.layers import check_probabilities


class TransUNet(nn.Module):
    """TransUNet whose defaults are R50-ViT-B/16 with the cascaded up-sampler, as the authors' code has it.

    A pre-activation ResNet-50 (weight-standardised convolutions, group norm) without its last stage, a transformer
    over the voxels of its map at 1/16, and four times: bilinear up-sampling, skip connection, two convolutions with
    batch norm. The last time there is no skip. With 3 channels, 9 classes (Synapse) and 224 x 224 voxels it has
    105,277,081 parameters. Takes (B, C, image_size, image_size), returns logits (B, K, image_size, image_size).

    The answer at a voxel depends on the whole tile, so tiled inference depends on the tiling.

    Args:
        in_channels: channels of the image; one is repeated to three, as the authors do, so that the first convolution
            is that of pre-trained weights.
        out_channels: classes K, background included.
        image_size: voxels per axis, a multiple of 16, at least 32. Each place at 1/16 has a learnt embedding, so no
            other size passes; the inferer cuts images into such tiles, see :func:`fixed_geometry`.
        features: channels of the ResNet's first convolution; its stages have 4, 8 and 16 times as many.
        units: residual units of the three stages.
        hidden: channels of a token.
        layers: of the transformer.
        heads: of its attention, a divisor of ``hidden``.
        mlp: channels between its two dense layers.
        decoder: channels of the convolution behind the transformer and of the four steps upward.
        dropout: probability in training, behind the embedding and the transformer's dense layers.

    Raises:
        ValueError: for options outside these ranges.

    Examples:
        >>> with torch.device("meta"):
        ...     network = TransUNet(in_channels=3, out_channels=9)
        >>> sum(p.numel() for p in network.parameters())
        105277081
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        image_size: int = 224,
        *,
        features: int = 64,
        units: Sequence[int] = (3, 4, 9),
        hidden: int = 768,
        layers: int = 12,
        heads: int = 12,
        mlp: int = 3072,
        decoder: Sequence[int] = (512, 256, 128, 64, 16),
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if image_size % 16 or image_size < 32:
            raise ValueError(f"image_size must be a multiple of 16, at least 32, got {image_size}")
        if len(units) != 3 or len(decoder) != 5:
            raise ValueError(
                f"units needs 3 numbers (stages of the ResNet) and decoder 5, got {tuple(units)} and {tuple(decoder)}"
            )
        if min(in_channels, out_channels, features, *units, hidden, layers, heads, mlp, *decoder) < 1:
            raise ValueError(
                "in_channels, out_channels, features, units, hidden, layers, heads, mlp and decoder must be at least 1"
            )
        if hidden % heads:
            raise ValueError(f"hidden must be a multiple of heads, got {hidden} and {heads}")
        check_probabilities(dropout=dropout)
        self.geometry = fixed_geometry(image_size, patch=16)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.image_size = image_size
        self.spatial_dims = 2
        self.encoder = _Encoder(
            _ResNet(stem_channels(in_channels), features, units),
            nn.Conv2d(16 * features, hidden, 1),
            [_Layer(hidden, heads, mlp, dropout) for _ in range(layers)],
            (image_size // 16) ** 2,
            dropout,
        )
        self.bottom = nn.Sequential(*_conv_norm_relu(hidden, decoder[0]))
        skips = (8 * features, 4 * features, features, 0)
        self.decoder = nn.ModuleList(
            nn.Sequential(*_conv_norm_relu(below + skip, width), *_conv_norm_relu(width, width))
            for below, skip, width in zip(decoder[:-1], skips, decoder[1:], strict=True)
        )
        self.head = nn.Conv2d(decoder[-1], out_channels, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, image_size, image_size) for an image (B, C, image_size, image_size).

        Raises:
            ValueError: for a wrong number of axes or channels, or another size.
        """
        x, skips = self.encoder(accepted(image, self.in_channels, self.image_size))
        x = self.bottom(x)
        for level, block in enumerate(self.decoder):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
            if level < len(skips):
                x = torch.cat([x, skips[-1 - level]], dim=1)
            x = block(x)
        logits: torch.Tensor = self.head(x)
        return logits


class StandardizedConv2d(nn.Conv2d):
    """A convolution with each of its filters brought to mean 0 and variance 1 (arXiv:1903.10520)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The convolution of ``x`` (B, C, *spatial)."""
        weight = standardized(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


def standardized(weight: torch.Tensor) -> torch.Tensor:
    """Filters (out, in, *kernel) less their means, over sqrt(variance + 1e-5).

    Examples:
        >>> standardized(torch.tensor([[[[1.0, 3.0]]]]))
        tensor([[[[-1.0000,  1.0000]]]])
    """
    variance, mean = torch.var_mean(weight, dim=(1, 2, 3), keepdim=True, correction=0)
    return (weight - mean) / torch.sqrt(variance + 1e-5)


class _Encoder(nn.Module):
    def __init__(
        self, resnet: _ResNet, embedding: nn.Conv2d, layers: list[_Layer], places: int, dropout: float
    ) -> None:
        super().__init__()
        self.resnet = resnet
        self.embedding = embedding
        self.position = nn.Parameter(torch.zeros(1, places, embedding.out_channels))
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(embedding.out_channels, eps=1e-6)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """The map at 1/16, and those of the skip connections, at 1/2, 1/4 and 1/8."""
        x, skips = self.resnet(image)
        x = self.embedding(x)
        tokens = self.drop(x.flatten(2).transpose(1, 2) + self.position)
        for layer in self.layers:
            tokens = layer(tokens)
        return self.norm(tokens).transpose(1, 2).unflatten(2, x.shape[2:]), skips


class _Layer(nn.Module):
    """A layer of the transformer, with normalisation before each of its halves."""

    def __init__(self, channels: int, heads: int, mlp: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = FeedForward(channels, mlp, dropout)
        for dense in (self.mlp.fc1, self.mlp.fc2):  # as the authors' code; all else as PyTorch
            nn.init.xavier_uniform_(dense.weight)
            nn.init.normal_(dense.bias, std=1e-6)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.proj(attend(self.qkv(self.norm1(tokens)), self.heads))
        out: torch.Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class _ResNet(nn.Module):
    """ResNet-50 (version 2) less its last stage."""

    def __init__(self, channels: int, features: int, units: Sequence[int]) -> None:
        super().__init__()
        root = StandardizedConv2d(channels, features, 7, stride=2, padding=3, bias=False)
        self.root = nn.Sequential(root, _group_norm(features), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2)
        self.stages = nn.ModuleList()
        width = features
        for level, count in enumerate(units):
            middle = features * 2**level
            first = _Unit(width, middle, stride=1 if level == 0 else 2, project=True)
            width = 4 * middle
            self.stages.append(nn.Sequential(first, *(_Unit(width, middle) for _ in range(count - 1))))

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x = self.root(image)
        skips = [x]
        x = self.pool(x)  # not padded, so one voxel short of a fourth of the image
        for level, stage in enumerate(self.stages[:-1]):
            x = stage(x)
            skips.append(F.pad(x, (0, 1, 0, 1)) if level == 0 else x)
        return self.stages[-1](x), skips


class _Unit(nn.Module):
    """A bottleneck of three convolutions beside the identity, or beside a projection to its channels and size."""

    def __init__(self, channels: int, middle: int, stride: int = 1, project: bool = False) -> None:
        super().__init__()
        out = 4 * middle
        self.branch = nn.Sequential(
            StandardizedConv2d(channels, middle, 1, bias=False),
            _group_norm(middle),
            nn.ReLU(inplace=True),
            StandardizedConv2d(middle, middle, 3, stride=stride, padding=1, bias=False),
            _group_norm(middle),
            nn.ReLU(inplace=True),
            StandardizedConv2d(middle, out, 1, bias=False),
            _group_norm(out),
        )
        self.shortcut = nn.Sequential()
        if project:
            self.shortcut.append(StandardizedConv2d(channels, out, 1, stride=stride, bias=False))
            self.shortcut.append(nn.GroupNorm(out, out))  # a group for each channel, PyTorch's eps: as the authors'

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.shortcut(x) + self.branch(x))


def _group_norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=1e-6)


def _conv_norm_relu(channels: int, out: int) -> list[nn.Module]:
    conv = nn.Conv2d(channels, out, 3, padding=1, bias=False)
    return [conv, nn.BatchNorm2d(out), nn.ReLU(inplace=True)]
