"""The overlap-tile strategy (arXiv:1505.04597, Fig. 2): seamless segmentation of images of any size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from tqdm import tqdm

from overtile.geometry import Geometry, Tile, fitted_output_size, plan_tiles, read_mirrored
from overtile.inferers.memory import activation_bytes
from overtile.inferers.symmetries import Averaging, Symmetry, symmetries
from overtile.networks import unwrapped

GIBIBYTE = 2**30


class OverlapTileInferer(Inferer):
    """Applies a network tile by tile, with mirrored context, and stitches the answers without a seam.

    The image is mirrored once around the whole of it, never per tile, and tiles lie on the network's pooling grid.
    So the result is that of *one* pass over the whole mirrored image, to float rounding, whatever the tile size. For a
    same-padded network, which fills in its own borders, it is that of one pass over the image itself, mirrored only up
    to the next legal size. This holds for networks whose answer at a voxel depends on its surroundings only: without
    normalisation, or with batch norm in evaluation mode. Instance and group norm take their statistics from the tile,
    so with them the result depends on ``output_size``.

    Every voxel is written once: there is no blending, and no work beyond the overlap of the reading windows.

    Args:
        output_size: wanted write window, one number or one per spatial axis, rounded up to a legal size;
            None chooses the one that costs least within ``memory_limit``.
        memory_limit: GiB that a pass of the network may take for its activations (not the image, the result or the
            weights), used when ``output_size`` is None. The estimate is rough, on the safe side for the U-Net; see
            :func:`activation_bytes`. Where even the smallest tile needs more, the smallest tile is taken.
        averaging: test-time averaging of the network's outputs over symmetries: ``"none"``, ``"flips"``,
            ``"rotations"`` (by right angles) or ``"all"``; see :func:`symmetries`.
        geometry: of the network; by default its ``geometry`` attribute, else that of the 2015 network. Give
            ``Geometry(levels=4, padding="same")`` for a same-padded network from elsewhere.
        network_device: where tiles are computed; by default where the network's weights are.
        device: where the result is put together; by default where the image is.
        progress: show a progress bar over the tiles.

    Raises:
        ValueError: for an unknown ``averaging``, or sizes and limits that are not positive.

    Examples:
        >>> from overtile.networks import UNet
        >>> network = UNet(2, 1, 2, levels=2, features=4).eval()
        >>> image = torch.rand(1, 1, 50, 70)
        >>> whole, tiled = (OverlapTileInferer(size)(image, network) for size in (None, 16))
        >>> tuple(whole.shape), bool(torch.allclose(whole, tiled, atol=1e-5))
        ((1, 2, 50, 70), True)
    """

    def __init__(
        self,
        output_size: int | Sequence[int] | None = None,
        memory_limit: float = 4.0,
        averaging: Averaging = "none",
        geometry: Geometry | None = None,
        network_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        progress: bool = False,
    ) -> None:
        symmetries(averaging, 2)
        sizes = [output_size] if isinstance(output_size, int) else output_size
        if sizes is not None and (len(sizes) == 0 or min(sizes) < 1):
            raise ValueError(f"output_size must be at least 1 voxel per axis, or None, got {output_size}")
        if memory_limit <= 0:
            raise ValueError(f"memory_limit must be a positive number of GiB, got {memory_limit}")
        self.output_size = output_size
        self.memory_limit = memory_limit
        self.averaging = averaging
        self.geometry = geometry
        self.network_device = network_device
        self.device = device
        self.progress = progress

    @torch.no_grad()
    def __call__(self, inputs: torch.Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        """The network's answer for every voxel, (B, K, *spatial) for an image (B, C, *spatial).

        Args:
            inputs: the image or a batch of images; a MetaTensor's meta data is passed on.
            network: called as ``network(tile, *args, **kwargs)``; must return one tensor (B, K, *output).
            args: passed on to the network.
            kwargs: passed on to the network.

        Raises:
            ValueError: for an image without spatial axes, or a network whose output does not match its geometry.
        """
        if inputs.ndim < 3 or 0 in inputs.shape:
            raise ValueError(f"an image must be (batch, channels, *spatial) and not empty, got {tuple(inputs.shape)}")
        image = inputs.as_tensor() if isinstance(inputs, MetaTensor) else inputs
        geometry = self.geometry or _declared_geometry(network)
        output_size = self._output_size(image, network, geometry)
        views = symmetries(self.averaging, image.ndim - 2)
        plans = [_plan(view, image, output_size, geometry) for view in views]
        bar = tqdm(total=sum(map(len, plans)), desc="tiles", unit="tile", disable=not self.progress)
        with bar:
            run = _Run(network, args, kwargs, geometry, self._network_device(network, image), self.device, bar)
            result = run.stitch(image, plans[0])
            if len(views) > 1:
                result = result.to(torch.promote_types(result.dtype, torch.float32))
                for view, tiles in zip(views[1:], plans[1:], strict=True):
                    result += view.invert(run.stitch(view.apply(image), tiles))
                result /= len(views)
        if isinstance(inputs, MetaTensor):
            return convert_to_dst_type(result, inputs, dtype=result.dtype, device=result.device)[0]
        return result

    def _output_size(self, image: torch.Tensor, network: Callable[..., Any], geometry: Geometry) -> tuple[int, ...]:
        shape = tuple(image.shape[2:])
        if isinstance(self.output_size, int):
            return (self.output_size,) * len(shape)
        if self.output_size is not None:
            if len(self.output_size) != len(shape):
                raise ValueError(
                    f"output_size {tuple(self.output_size)} does not fit an image with {len(shape)} spatial axes"
                )
            return tuple(self.output_size)
        fitted = (geometry.step,) * len(shape)
        for _ in range(2):  # the larger a valid network's tile, the more its layers behind the skips take per voxel
            probe = tuple(map(geometry.input_size, fitted))
            per_voxel = activation_bytes(network, image.shape[1], probe) * image.shape[0]
            fitted = fitted_output_size(shape, geometry, self.memory_limit * GIBIBYTE / per_voxel)
        return fitted

    def _network_device(self, network: Callable[..., Any], image: torch.Tensor) -> torch.device:
        if self.network_device is not None:
            return torch.device(self.network_device)
        if isinstance(network, torch.nn.Module):
            return next((parameter.device for parameter in network.parameters()), image.device)
        return image.device


@dataclass(frozen=True)
class _Run:
    """One call of the inferer: everything that is the same for all its tiles."""

    network: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    geometry: Geometry
    network_device: torch.device
    device: torch.device | str | None
    bar: Any

    def stitch(self, image: torch.Tensor, tiles: list[Tile]) -> torch.Tensor:
        """Answers of all tiles in one tensor."""
        result: torch.Tensor | None = None
        for tile in tiles:
            answer = self._answer(read_mirrored(image, tile.read).to(self.network_device), tile)
            if result is None:
                shape = (*answer.shape[:2], *image.shape[2:])
                result = torch.empty(shape, dtype=answer.dtype, device=self.device or image.device)
            result[(slice(None), slice(None), *tile.write)] = answer.to(result.device)
            self.bar.update()
        assert result is not None  # an image that is not empty has a tile
        return result

    def _answer(self, window: torch.Tensor, tile: Tile) -> torch.Tensor:
        """The network's answer at the tile's write window."""
        answer = self.network(window, *self.args, **self.kwargs)
        expected = (window.shape[0], *(size - 2 * self.geometry.loss for size in tile.input_shape))
        got = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        if not isinstance(answer, torch.Tensor) or (answer.shape[0], *answer.shape[2:]) != expected:
            raise ValueError(
                f"a {self.geometry.padding} network with {self.geometry.levels} levels must answer an input of shape "
                f"{tuple(window.shape)} with one tensor of shape {(expected[0], 'classes', *expected[1:])}, got {got}; "
                "declare what it does with OverlapTileInferer(geometry=Geometry(levels=..., padding='valid' or 'same'))"
            )
        corners = (w.start - r.start - self.geometry.loss for r, w in zip(tile.read, tile.write, strict=True))
        keep = (slice(corner, corner + size) for corner, size in zip(corners, tile.write_shape, strict=True))
        return answer[(slice(None), slice(None), *keep)]


def _plan(view: Symmetry, image: torch.Tensor, output_size: tuple[int, ...], geometry: Geometry) -> list[Tile]:
    """Tiles of the image as seen through a symmetry."""
    shape = [image.shape[2 + axis] for axis in view.permutation]
    return plan_tiles(shape, [output_size[axis] for axis in view.permutation], geometry)


def _declared_geometry(network: Callable[..., Any]) -> Geometry:
    """What the network says of itself, also through a (data-)parallel wrapper; the 2015 network's by default."""
    geometry = getattr(unwrapped(network), "geometry", None)
    return geometry if isinstance(geometry, Geometry) else Geometry()
