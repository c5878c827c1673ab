"""The overlap-tile strategy (arXiv:1505.04597, Fig. 2): seamless segmentation of images of any size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.utils import convert_to_dst_type
from tqdm import tqdm

from overtile.geometry import (
    Geometry,
    Strips,
    Tile,
    fitted_output_size,
    fitted_strips,
    plan_tiles,
    read_mirrored,
)
from overtile.inferers.memory import activation_bytes, held_bytes
from overtile.inferers.symmetries import Averaging, Symmetry, symmetries
from overtile.inferers.transfer import received, sent
from overtile.networks import UNet, can_stream, stream, unwrapped

GIBIBYTE = 2**30
# Voxels of a strip beyond which the convolutions gain nothing (docs/performance.md); a GPU needs more to be busy.
WANTED = 2**17
WANTED_ON_GPU = 2**20


class OverlapTileInferer(Inferer):
    """Applies a network tile by tile, with mirrored context, and stitches the answers without a seam.

    The image is mirrored once around the whole of it, never per tile, and tiles lie on the network's pooling grid.
    So the result is that of *one* pass over the whole mirrored image, to float rounding, whatever the tile size. For a
    same-padded network, which fills in its own borders, it is that of one pass over the image itself, mirrored only up
    to the next legal size. This holds for networks whose answer at a voxel depends on its surroundings only: without
    normalisation, or with batch norm in evaluation mode. Instance and group norm take their statistics from the tile,
    so with them the result depends on ``output_size``. Networks of one size, most of which attend to all of a tile, get
    tiles of that size, of which the middle is kept.

    Every voxel is written once: there is no blending, and no work beyond the overlap of the reading windows. Without a
    given ``output_size`` a :class:`UNet` is streamed: rows of the image pass through it strip by strip, every layer
    keeps what it still needs, so nothing is computed twice and memory does not grow with the image's length.

    Args:
        output_size: wanted write window, one number or one per spatial axis, rounded up to a legal size;
            None chooses what costs least within ``memory_limit``: strips where the network can be streamed (see
            :func:`can_stream`), else tiles. A network of one size needs none, and no limit changes its tiles.
        memory_limit: GiB that a pass of the network may take for its activations (not the image, the result or the
            weights), used when ``output_size`` is None. The estimate is rough, on the safe side for the U-Net; see
            :func:`activation_bytes`. Where even the smallest tile or strip needs more, the smallest is taken.
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
        views = symmetries(self.averaging, image.ndim - 2)
        streamed = self.output_size is None and not args and not kwargs and _streams(network, geometry)
        plan_view = self._strips if streamed else self._tiles
        plans = [plan_view(view, image, network, geometry) for view in views]
        bar = tqdm(total=sum(p.passes for p in plans), desc="tiles", unit="tile", disable=not self.progress)
        with bar:
            run = _Run(network, args, kwargs, geometry, self._network_device(network, image), self.device, bar)
            result = run.stitch(image, plans[0])
            if len(views) > 1:
                result = result.to(torch.promote_types(result.dtype, torch.float32))
                for view, plan in zip(views[1:], plans[1:], strict=True):
                    result += view.invert(run.stitch(view.apply(image), plan))
                result /= len(views)
        if isinstance(inputs, MetaTensor):
            return convert_to_dst_type(result, inputs, dtype=result.dtype, device=result.device)[0]
        return result

    def _tiles(self, view: Symmetry, image: torch.Tensor, network: Callable[..., Any], geometry: Geometry) -> _Plan:
        """Tiles of the image as seen through a symmetry."""
        output_size = self._output_size(image, network, geometry)
        shape = [image.shape[2 + axis] for axis in view.permutation]
        return _Plan(plan_tiles(shape, [output_size[axis] for axis in view.permutation], geometry))

    def _strips(self, view: Symmetry, image: torch.Tensor, network: Callable[..., Any], geometry: Geometry) -> _Plan:
        """Tiles as long as the image, to be read strip by strip."""
        shape = [image.shape[2 + axis] for axis in view.permutation]
        probe = (geometry.input_size(32 * geometry.step),) * len(shape)  # as wide as to be in the long run
        per_voxel = activation_bytes(network, image.shape[1], probe) * image.shape[0]
        held = held_bytes(cast(UNet, network)) * image.shape[0] / per_voxel
        wanted = WANTED_ON_GPU if self._network_device(network, image).type == "cuda" else WANTED
        strips = fitted_strips(shape, geometry, self.memory_limit * GIBIBYTE / per_voxel, held, wanted / image.shape[0])
        return _Plan(plan_tiles(shape, strips.output_size, geometry), strips)

    def _output_size(self, image: torch.Tensor, network: Callable[..., Any], geometry: Geometry) -> tuple[int, ...]:
        shape = tuple(image.shape[2:])
        if self.output_size is not None:
            size = self.output_size
            wanted = (size,) * len(shape) if isinstance(size, int) else tuple(size)
            if len(wanted) != len(shape):
                raise ValueError(f"output_size {wanted} does not fit an image with {len(shape)} spatial axes")
            if geometry.tile is not None and max(wanted) > geometry.window_size(1):
                raise ValueError(
                    f"output_size {size} is more than {geometry.window_size(1)}, the voxels that this network answers: "
                    f"it takes tiles of {geometry.tile} voxels only; leave it out"
                )
            return wanted
        if geometry.tile is not None:
            return (geometry.tile,) * len(shape)
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
class _Plan:
    """The passes that one view of an image takes."""

    tiles: list[Tile]
    strips: Strips | None = None

    @property
    def passes(self) -> int:
        """Tiles, or strips of tiles."""
        return sum(len(self.windows(tile)) for tile in self.tiles)

    def windows(self, tile: Tile) -> list[tuple[slice, ...]]:
        """What is read of the image at a time for a tile."""
        if self.strips is None:
            return [tile.read]
        axis, height = self.strips.axis, self.strips.height
        read = tile.read[axis]
        cuts = [slice(start, min(start + height, read.stop)) for start in range(read.start, read.stop, height)]
        return [(*tile.read[:axis], cut, *tile.read[axis + 1 :]) for cut in cuts]


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

    def stitch(self, image: torch.Tensor, plan: _Plan) -> torch.Tensor:
        """Answers of all tiles in one tensor."""
        result: torch.Tensor | None = None
        device = image.device if self.device is None else torch.device(self.device)
        for place, piece in received(self._pieces(image, plan), device):
            if result is None:
                result = torch.empty((*piece.shape[:2], *image.shape[2:]), dtype=piece.dtype, device=device)
            result[(slice(None), slice(None), *place)] = piece
        assert result is not None  # an image that is not empty has a tile
        return result

    def _pieces(self, image: torch.Tensor, plan: _Plan) -> Iterator[tuple[tuple[slice, ...], torch.Tensor]]:
        """The result piece by piece: where each lies in it, and its values on the network's device."""
        for tile in plan.tiles:
            origin = [read.start + self.geometry.loss for read in tile.read]
            for answer in self._answers(image, tile, plan):
                yield _cropped(answer, tile, origin)
                if plan.strips is not None:
                    origin[plan.strips.axis] += answer.shape[2 + plan.strips.axis]

    def _answers(self, image: torch.Tensor, tile: Tile, plan: _Plan) -> Iterator[torch.Tensor]:
        """The network's answer for a tile, in one piece or in several along the axis of the strips."""
        windows = (self._window(image, read) for read in plan.windows(tile))
        if plan.strips is None:
            yield self._answer(next(windows), tile)
        else:
            yield from stream(cast(UNet, self.network), windows, plan.strips.axis)

    def _window(self, image: torch.Tensor, read: tuple[slice, ...]) -> torch.Tensor:
        self.bar.update()
        return sent(read_mirrored(image, read), self.network_device)

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
        return answer


def _cropped(answer: torch.Tensor, tile: Tile, origin: Sequence[int]) -> tuple[tuple[slice, ...], torch.Tensor]:
    """What an answer, whose first voxel is that of the image at ``origin``, has of the tile; and where that lies."""
    to, of = [], []
    for start, size, write in zip(origin, answer.shape[2:], tile.write, strict=True):
        first, last = max(start, write.start), min(start + size, write.stop)
        to.append(slice(first, max(first, last)))
        of.append(slice(first - start, max(first, last) - start))
    return tuple(to), answer[(slice(None), slice(None), *of)]


def _streams(network: Callable[..., Any], geometry: Geometry) -> bool:
    return can_stream(network) and cast(UNet, network).geometry == geometry


def _declared_geometry(network: Callable[..., Any]) -> Geometry:
    """What the network says of itself, also through a (data-)parallel wrapper; the 2015 network's by default."""
    geometry = getattr(unwrapped(network), "geometry", None)
    return geometry if isinstance(geometry, Geometry) else Geometry()
