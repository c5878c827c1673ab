"""FCN-8s (Long, Shelhamer and Darrell, arXiv:1411.4038): the fully convolutional network that the U-Net extends."""

from __future__ import annotations

import torch
from torch import nn

from overtile.geometry import Geometry
from overtile.networks.layers import CONV, POOL, UP, check_axes, check_options, check_probabilities, he_initialise

_CONVS = (2, 2, 3, 3, 3)  # of VGG-16's five stages
_WIDTHS = (1, 2, 4, 8, 8)  # in units of the first
# Voxels of the image that a logit depends on to one side, 245, rounded up to the step of 32: 2 + 4 + 12 + 24 + 48 for
# the stages, 3 * 32 for the first fully connected layer, and at most 59 from a voxel to the far end of the coarsest
# score that the three up-samplings give it a part of.
_MARGIN = 256


class FCN(nn.Module):
    """FCN-8s on VGG-16, whose defaults are the paper's for PASCAL VOC: 134,489,759 parameters.

    VGG-16 with its fully connected layers as convolutions, class scores from the last layer and from the third and the
    fourth pooling, summed on the way up. Up-samplings are transposed convolutions that begin as bilinear
    interpolation; the last one, by 8, stays so (112,896 parameters that are not trained), as in the paper. Takes
    (B, C, *spatial) of any size, returns logits (B, K, *spatial).

    **Not as in the paper:** every convolution is padded to keep its size, where the release pads the image by 100
    voxels and crops; so scores lie on the image without an offset, and the parameters are the same. Weights begin as
    in He et al. (the paper's come from ImageNet), those of the scores at zero as in the paper. A size that a pooling
    does not divide is rounded up by it, as in Caffe, and cropped on the way up.

    Args:
        spatial_dims: 2, or 3 with 3x3x3 convolutions and trilinear interpolation, which the paper does not have.
        in_channels: channels of the image.
        out_channels: classes K, background included.
        features: channels of the first stage; VGG-16's 64.
        hidden: channels of the two layers that were fully connected; VGG-16's 4096.
        dropout: probability with which their outputs are dropped in training.

    Raises:
        ValueError: for options outside these ranges.

    Examples:
        >>> with torch.device("meta"):
        ...     paper = FCN()
        >>> sum(p.numel() for p in paper.parameters())
        134489759
        >>> sum(p.numel() for p in paper.parameters() if p.requires_grad)
        134376863
        >>> tuple(FCN(2, 1, 2, features=2, hidden=8).eval()(torch.rand(1, 1, 50, 33)).shape)
        (1, 2, 50, 33)
    """

    def __init__(
        self,
        spatial_dims: int = 2,
        in_channels: int = 3,
        out_channels: int = 21,
        features: int = 64,
        hidden: int = 4096,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        counts = {"in_channels": in_channels, "out_channels": out_channels, "features": features, "hidden": hidden}
        check_options(spatial_dims, **counts)
        check_probabilities(dropout=dropout)
        self.geometry = Geometry(levels=len(_CONVS), padding="same", margin=_MARGIN)
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.out_channels = out_channels

        self.stages = nn.ModuleList()
        channels = in_channels
        for convs, width in zip(_CONVS, _WIDTHS, strict=True):
            self.stages.append(_stage(spatial_dims, channels, width * features, convs))
            channels = width * features
        conv = CONV[spatial_dims]
        self.classifier = nn.Sequential(
            conv(channels, hidden, 7, padding=3),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            conv(hidden, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
        )
        self.apply(he_initialise)
        self.score = _score(spatial_dims, hidden, out_channels)
        self.score_pool4 = _score(spatial_dims, _WIDTHS[3] * features, out_channels)
        self.score_pool3 = _score(spatial_dims, _WIDTHS[2] * features, out_channels)
        self.up_score = _up(spatial_dims, out_channels, 2)
        self.up_pool4 = _up(spatial_dims, out_channels, 2)
        self.up_pool3 = _up(spatial_dims, out_channels, 8).requires_grad_(False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits (B, K, *spatial) for an image (B, C, *spatial) of any size.

        Raises:
            ValueError: for a wrong number of axes or channels.
        """
        if not torch.jit.is_scripting() and not torch.compiler.is_compiling():
            self._check_input(image)
        x = image
        pools: list[torch.Tensor] = []
        for stage in self.stages:
            x = stage(x)
            pools.append(x)
        scores = self.score(self.classifier(x))
        scores = self.score_pool4(pools[3]) + _cropped(self.up_score(scores), pools[3])
        scores = self.score_pool3(pools[2]) + _cropped(self.up_pool4(scores), pools[2])
        return _cropped(self.up_pool3(scores), image)

    @torch.jit.unused
    def _check_input(self, image: torch.Tensor) -> None:
        check_axes(image, self.spatial_dims, self.in_channels)


def _stage(spatial_dims: int, channels: int, out: int, convs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for number in range(convs):
        layers.append(CONV[spatial_dims](channels if number == 0 else out, out, 3, padding=1))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers, POOL[spatial_dims](2, ceil_mode=True))


def _score(spatial_dims: int, channels: int, classes: int) -> nn.Module:
    score = CONV[spatial_dims](channels, classes, 1)
    for parameter in score.parameters():
        nn.init.zeros_(parameter)
    return score


def _up(spatial_dims: int, classes: int, factor: int) -> nn.Module:
    """Up-sampling that begins as (bi-, tri-)linear interpolation of each class by itself."""
    up = UP[spatial_dims](classes, classes, 2 * factor, stride=factor, padding=factor // 2, bias=False)
    ramp = 1 - (torch.arange(2 * factor) - (factor - 0.5)).abs() / factor
    kernel = ramp
    for _ in range(spatial_dims - 1):
        kernel = kernel[..., None] * ramp
    with torch.no_grad():
        up.weight.zero_()
        for number in range(classes):
            up.weight[number, number] = kernel
    return up


def _cropped(scores: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Scores without what a rounded pooling has added at the far ends."""
    for axis in range(2, like.dim()):
        scores = scores.narrow(axis, 0, like.size(axis))
    return scores
