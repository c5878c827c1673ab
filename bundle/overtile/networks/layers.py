"""Layers of networks in two and three dimensions, their first weights, and the checks of what a network is given."""

from __future__ import annotations

import torch
from torch import nn

CONV: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
UP: dict[int, type[nn.ConvTranspose2d] | type[nn.ConvTranspose3d]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL: dict[int, type[nn.MaxPool2d] | type[nn.MaxPool3d]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
BATCH_NORM: dict[int, type[nn.BatchNorm2d] | type[nn.BatchNorm3d]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


def check_axes(image: torch.Tensor, spatial_dims: int, in_channels: int) -> None:
    """Raises a ValueError unless an image has a network's channels and spatial axes."""
    if image.ndim != spatial_dims + 2 or image.shape[1] != in_channels:
        raise ValueError(
            f"a {spatial_dims}D network with {in_channels} input channels takes "
            f"(batch, {in_channels}, *{spatial_dims} axes), got shape {tuple(image.shape)}"
        )


def check_options(spatial_dims: int, **counts: int) -> None:
    """Raises a ValueError unless a network has 2 or 3 dimensions, and at least 1 of what is counted."""
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got {spatial_dims!r}")
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def check_probabilities(**rates: float) -> None:
    """Raises a ValueError unless all, with which something is dropped, are probabilities below 1."""
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f"{name} must be a probability in [0, 1), got {rate}")


def he_initialise(module: nn.Module) -> None:
    """He initialisation as in the U-Net's paper: Gaussian weights of std sqrt(2 / N), N incoming nodes; biases 0."""
    if isinstance(module, (nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
