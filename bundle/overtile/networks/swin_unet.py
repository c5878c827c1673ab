"""Swin-UNet (arXiv:2105.05537): a U-Net of transformers that attend within shifted windows (arXiv:2103.14030)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from overtile.networks.attention import FeedForward
from overtile.networks.fixed_size import accepted, fixed_geometry, stem_channels
from overtile.networks.layers import check_probabilities
from overtile.networks.patches import PatchEmbedding, PatchExpanding, PatchMerging
from overtile.networks.windows import WindowAttention


class SwinUNet(nn.Module):
    """Swin-UNet whose defaults are the authors': patches of 4 x 4, windows of 7 x 7, 96 to 768 channels.

    Every level has transformer blocks whose windows are shifted by half in every second one. Downward four
    neighbouring tokens become one, upward one becomes four, and tokens of equal level join before the blocks. With 3
    channels, 9 classes (Synapse) and 224 x 224 voxels it has 27,168,900 parameters. Takes
    (B, C, image_size, image_size), returns logits (B, K, image_size, image_size).

    The answer at a voxel depends on the whole tile, so tiled inference depends on the tiling. The encoder's parameters
    have the names of the Swin Transformer's own release, so that its weights fit; see :func:`load_encoder`.

    Args:
        in_channels: channels of the image; one is repeated to three, as the authors do, so that the first convolution
            is that of pre-trained weights.
        out_channels: classes K, background included.
        image_size: voxels per axis, a multiple of ``patch * 2 ** (levels - 1)`` that leaves whole windows on every
            level, so 224 or a multiple of it at the defaults, and 256 with ``window=8``. No other size passes; the
            inferer cuts images into such tiles, see :func:`fixed_geometry`.
        patch: voxels per axis of a token.
        features: channels of the first level; doubled on every level.
        depths: blocks of each level on the way down. The way up has as many, but none on the lowest level (what the
            authors call their decoder's depths is not read by their code).
        heads: of each level's attention, divisors of its channels.
        window: tokens per axis that attend to each other; on a level with no more than these, all do.
        mlp_ratio: channels between the two dense layers of a block, over its channels.
        drop_path: probability with which the last block's branches are left out of an image in training (stochastic
            depth); that of the others grows evenly from 0 in the first one.

    Raises:
        ValueError: for options outside these ranges.

    Examples:
        >>> with torch.device("meta"):
        ...     network = SwinUNet(in_channels=3, out_channels=9)
        >>> sum(p.numel() for p in network.parameters())
        27168900
    """

    def __init__(
        self,
        in_channels: int = 1,
        out_channels: int = 2,
        image_size: int = 224,
        *,
        patch: int = 4,
        features: int = 96,
        depths: Sequence[int] = (2, 2, 2, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.2,
    ) -> None:
        super().__init__()
        _check_options(in_channels, out_channels, patch, features, depths, heads, window, mlp_ratio, drop_path)
        sizes = _level_sizes(image_size, patch, len(depths), window)
        widths = [features * 2**level for level in range(len(depths))]
        self.geometry = fixed_geometry(image_size, patch)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.image_size = image_size
        self.spatial_dims = 2

        def blocks(level: int) -> nn.Sequential:
            """The same on the way down and on the way up."""
            before, last = sum(depths[:level]), max(sum(depths) - 1, 1)
            return nn.Sequential(
                *(
                    _Block(
                        WindowAttention(widths[level], heads[level], sizes[level], window, shifted=index % 2 == 1),
                        FeedForward(widths[level], int(widths[level] * mlp_ratio)),
                        drop_path * (before + index) / last,
                    )
                    for index in range(depths[level])
                )
            )

        upper = range(len(depths) - 1)
        down = [_Stage(blocks(level), PatchMerging(widths[level])) for level in upper]
        bottom = _Stage(blocks(len(upper)), nn.Identity())
        embedding = PatchEmbedding(stem_channels(in_channels), features, patch)
        self.encoder = _Encoder(embedding, [*down, bottom], widths[-1])
        self.ups = nn.ModuleList(PatchExpanding(widths[level + 1], widths[level]) for level in reversed(upper))
        self.joins = nn.ModuleList(nn.Linear(2 * widths[level], widths[level]) for level in reversed(upper))
        self.decoder = nn.ModuleList(blocks(level) for level in reversed(upper))
        self.norm = nn.LayerNorm(features)
        self.final = PatchExpanding(features, features, patch)
        self.head = nn.Conv2d(features, out_channels, 1, bias=False)
        self.apply(_initialise)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, image_size, image_size) for an image (B, C, image_size, image_size).

        Raises:
            ValueError: for a wrong number of axes or channels, or another size.
        """
        tokens, skips = self.encoder(accepted(image, self.in_channels, self.image_size))
        for up, join, block, skip in zip(self.ups, self.joins, self.decoder, reversed(skips), strict=True):
            tokens = block(join(torch.cat([up(tokens), skip], dim=-1)))
        tokens = self.final(self.norm(tokens))
        logits: torch.Tensor = self.head(tokens.permute(0, 3, 1, 2))
        return logits


class DropPath(nn.Module):
    """Stochastic depth (arXiv:1603.09382): in training, a branch is left out of some of a batch's images.

    Args:
        probability: of leaving it out; where it stays it counts 1 / (1 - probability) times.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, branch: torch.Tensor) -> torch.Tensor:
        """The branch (B, ...), or zeros for some of its images."""
        if not self.training or self.probability == 0:
            return branch
        kept = torch.rand(branch.shape[0], *[1] * (branch.ndim - 1), device=branch.device) >= self.probability
        return branch * kept / (1 - self.probability)


class _Block(nn.Module):
    """Attention within windows and two dense layers, each normalised before and added to what came in."""

    def __init__(self, attention: WindowAttention, mlp: FeedForward, drop_path: float) -> None:
        super().__init__()
        channels = mlp.fc1.in_features
        self.norm1 = nn.LayerNorm(channels)
        self.attn = attention
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = mlp

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens)))
        out: torch.Tensor = tokens + self.drop_path(self.mlp(self.norm2(tokens)))
        return out


class _Stage(nn.Module):
    def __init__(self, blocks: nn.Sequential, downsample: nn.Module) -> None:
        super().__init__()
        self.blocks = blocks
        self.downsample = downsample

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.downsample(self.blocks(tokens))
        return out


class _Encoder(nn.Module):
    def __init__(self, patch_embed: PatchEmbedding, layers: list[_Stage], channels: int) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Tokens of the lowest level; and those of the levels above *before* their blocks, the authors' skips."""
        tokens = self.patch_embed(image)
        skips: list[torch.Tensor] = []
        for layer in self.layers:
            skips.append(tokens)
            tokens = layer(tokens)
        return self.norm(tokens), skips[:-1]


def _initialise(module: nn.Module) -> None:
    """The authors': truncated Gaussians of std 0.02 for dense layers and position biases, and biases 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, WindowAttention):
        nn.init.trunc_normal_(module.relative_position_bias_table, std=0.02)


def _level_sizes(image_size: int, patch: int, levels: int, window: int) -> list[int]:
    """Tokens per axis of each level."""
    step = patch * 2 ** (levels - 1)
    sizes = [image_size // (patch * 2**level) for level in range(levels)]
    if image_size < step or image_size % step:
        raise ValueError(
            f"image_size must be a multiple of patch * 2 ** (levels - 1) = {step} voxels, got {image_size}"
        )

    def fits(window: int) -> bool:
        return all(size <= window or size % window == 0 for size in sizes)

    if not fits(window):
        fitting = ", ".join(str(other) for other in range(2, sizes[0] + 1) if fits(other))
        raise ValueError(
            f"each level must have whole windows of {window} tokens per axis, or less than one window, got "
            f"{sizes} tokens for image_size {image_size}; choose it as a multiple of {step * window}, or one of the "
            f"windows that fit: {fitting}"
        )
    return sizes


def _check_options(
    in_channels: int,
    out_channels: int,
    patch: int,
    features: int,
    depths: Sequence[int],
    heads: Sequence[int],
    window: int,
    mlp_ratio: float,
    drop_path: float,
) -> None:
    if len(depths) < 2 or len(depths) != len(heads):
        raise ValueError(f"depths and heads need a number for each of two or more levels, got {depths} and {heads}")
    if min(in_channels, out_channels, patch, features, *depths, *heads) < 1 or mlp_ratio <= 0:
        raise ValueError("in_channels, out_channels, patch, features, depths, heads and mlp_ratio must be positive")
    for level, number in enumerate(heads):
        if features * 2**level % number:
            raise ValueError(f"heads must divide the channels of their level, got {number} for {features * 2**level}")
    if window < 2:
        raise ValueError(f"window must be at least 2 tokens, so that it can be shifted by half, got {window}")
    check_probabilities(drop_path=drop_path)
