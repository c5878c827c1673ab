"""Values of images between their voxels; outside, an image continues as its mirror image."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
import torch.nn.functional as F

Mode = Literal["bilinear", "bicubic", "nearest"]
MODES: tuple[Mode, ...] = get_args(Mode)
PAGE = 4096  # bytes of memory
LARGEST_ROOM = 2**22  # numbers: 16 MiB for each thread
SLAB = 2**16  # voxels worked on at a time: their positions and indices stay in the processor's cache


@dataclass(frozen=True)
class Positions:
    """Positions in an image in voxels, (d, *size), kept as a product so that a part can be had without the whole.

    Args:
        rows: (d, *size[:-1], k).
        columns: (k, size[-1]).
    """

    rows: torch.Tensor
    columns: torch.Tensor

    @property
    def size(self) -> tuple[int, ...]:
        """Of what is read there, in voxels per axis."""
        return (*self.rows.shape[1:-1], self.columns.shape[1])

    @property
    def device(self) -> torch.device:
        """Of both factors."""
        return self.rows.device

    def part(self, slab: slice = slice(None)) -> torch.Tensor:
        """The positions along a part of the first axis, (d, *part), float32 and contiguous; valid until the next call.

        On a GPU the product is computed in float64: in TF32 it would move voxels by 0.3.
        """
        rows = self.rows[:, slab]
        with torch.autocast(self.device.type, enabled=False):
            if self.device.type != "cpu":
                return torch.matmul(rows, self.columns).float()
            room = _scratch("positions", (*rows.shape[:-1], self.columns.shape[1]), self.device)
            return torch.matmul(rows, self.columns, out=room)

    def inner(self, inset: int, device: torch.device) -> Positions:
        """The positions less ``inset`` on each side."""
        inside = (slice(None), *(slice(inset, size - inset) for size in self.size[:-1]))
        columns = self.columns[:, inset : self.size[-1] - inset].contiguous()
        return Positions(self.rows[inside].to(device), columns.to(device))


class Sampler:
    """Reads images of one shape at the same positions; what the images have in common is worked out once.

    Args:
        positions: where to read.
        shape: spatial shape of the images.

    Examples:
        >>> diagonal = Positions(torch.ones(2, 1, 1), torch.tensor([[0.25, -1.0, 3.5]]))  # mirrored at 0 and at 2
        >>> sampler = Sampler(diagonal, (3, 3))
        >>> sampler(torch.arange(9).reshape(1, 3, 3), "nearest")
        tensor([[[0, 4, 0]]])
        >>> sampler(torch.arange(9).reshape(1, 3, 3), "bilinear")
        tensor([[[1., 4., 2.]]])
    """

    def __init__(self, positions: Positions, shape: Sequence[int]) -> None:
        self.positions = positions
        self.shape = tuple(shape)

    def __call__(self, image: torch.Tensor, mode: Mode) -> torch.Tensor:
        """(C, *size), the values of ``image``, (C, *shape).

        ``"nearest"`` keeps the type and invents no value: for labels. ``"bilinear"`` (trilinear in 3D) and
        ``"bicubic"`` (2D only) return float32.
        """
        if mode == "nearest":
            return self._gather(image)
        if image.ndim == 4 and image.device.type == "cpu":  # where PyTorch's own is not vectorised, five times slower
            return self._trilinear(image)
        return _grid_sample(image, self.positions.part(), mode)

    def _gather(self, image: torch.Tensor) -> torch.Tensor:
        result = image.new_empty((len(image), *self.positions.size))
        for channel, values in zip(result, image.reshape(len(image), -1), strict=True):
            torch.index_select(values, 0, self._nearest, out=channel.view(-1))
        return result

    @cached_property
    def _nearest(self) -> torch.Tensor:
        """Index of the nearest voxel of every position, into a flattened image."""
        result = torch.empty(self.positions.size, dtype=_index_type(self.shape), device=self.positions.device)
        for slab in _slabs(self.positions):
            index = result.new_zeros(())
            for size, position in zip(self.shape, self.positions.part(slab), strict=True):
                voxel = _mirror(position.round_(), size).to(result.dtype)
                index = torch.add(voxel, index, alpha=size)
            result[slab] = index
        return result.view(-1)

    def _trilinear(self, image: torch.Tensor) -> torch.Tensor:
        result = torch.empty((len(image), *self.positions.size))
        channels = image.reshape(len(image), -1)
        strides = [math.prod(self.shape[axis + 1 :]) if size > 1 else 0 for axis, size in enumerate(self.shape)]
        for slab in _slabs(self.positions):
            index, fractions = torch.zeros((), dtype=_index_type(self.shape)), []
            for size, stride, position in zip(self.shape, strides, self.positions.part(slab), strict=True):
                voxel = _mirror(position, size).floor().clamp_(0, max(size - 2, 0))
                fractions.append(position.sub_(voxel).view(-1))
                index = torch.add(index, voxel.to(index.dtype), alpha=stride)
            for values, written in zip(channels, result[:, slab], strict=True):
                written.view(-1).copy_(_lerp(values, index.view(-1), strides, fractions))
        return result


def _grid_sample(image: torch.Tensor, coordinates: torch.Tensor, mode: Mode) -> torch.Tensor:
    grid = _scratch("grid", (1, *coordinates.shape[1:], len(coordinates)), coordinates.device)
    rim = 1 if mode == "bicubic" else 0
    for axis, position in enumerate(coordinates, start=1):
        low, high = (float(limit) for limit in position.aminmax())
        first, last = math.floor(low) - rim, math.ceil(high) + rim
        if first < 0 or last >= image.shape[axis]:  # what is mirrored may come from anywhere
            first, last = 0, image.shape[axis] - 1
        image = image.narrow(axis, first, last + 1 - first)  # convert and look at this part only
        scale = 2 / max(last - first, 1)  # to -1 ... 1
        torch.add(torch.tensor(-1 - first * scale), position, alpha=scale, out=grid[0, ..., -axis])  # x comes first
    source = _scratch("image", tuple(image.shape), image.device).copy_(image.detach())
    return F.grid_sample(source[None], grid, mode=mode, padding_mode="reflection", align_corners=True)[0]


class _Scratch(threading.local):
    """Memory that each sample uses again: to ask the system for it anew takes as long as to sample."""

    def __init__(self) -> None:
        self.rooms: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, shape: tuple[int, ...], device: torch.device) -> torch.Tensor:
        """A float32 tensor that is valid until the name is asked for again.

        On the CPU it begins in the middle of a memory page, while large tensors begin near the start of one. A
        processor holds up a read from the place in a page to which it has just written in another page, and a deformed
        image is written to about where it is read: sampling from the start of a page takes up to twice as long.
        """
        size = math.prod(shape)
        if device.type != "cpu" or size > LARGEST_ROOM:
            return torch.empty(shape, dtype=torch.float32, device=device)
        room = self.rooms.get(name)
        if room is None or len(room) < size:
            with torch.inference_mode(False):  # what is made there cannot be written to elsewhere
                memory = torch.empty(size + PAGE // 4, dtype=torch.float32, device=device)
            room = self.rooms[name] = memory[(PAGE // 2 - memory.data_ptr()) % PAGE // 4 :]
        return room[:size].view(shape)


_scratch = _Scratch()


def _lerp(
    values: torch.Tensor, index: torch.Tensor, strides: Sequence[int], fractions: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Interpolates between ``values[index]`` and the next ones along every axis, the last axis first."""
    if not strides:
        return values.index_select(0, index).float()
    here = _lerp(values, index, strides[1:], fractions[1:])
    return torch.lerp(here, _lerp(values[strides[0] :], index, strides[1:], fractions[1:]), fractions[0])


def _mirror(position: torch.Tensor, size: int) -> torch.Tensor:
    """Folds positions outside an axis back into it, in place."""
    last = size - 1
    low, high = (float(limit) for limit in position.aminmax())
    if low < -last or high > 2 * last:  # further away than the first mirror image; exact for whole numbers below 2**24
        period = max(2 * last, 1)
        position.sub_((position / period).floor_(), alpha=period)
    if low < 0 or high > last:
        position.abs_().sub_(last).abs_().neg_().add_(last)
    return position


def _slabs(positions: Positions) -> Iterator[slice]:
    """Parts of the first axis, of about ``SLAB`` voxels on the CPU; elsewhere the whole."""
    size, *others = positions.size
    step = max(SLAB // math.prod(others), 1) if positions.device.type == "cpu" else size
    return (slice(start, start + step) for start in range(0, size, step))


def _index_type(shape: Sequence[int]) -> torch.dtype:
    return torch.int32 if math.prod(shape) < 2**31 else torch.int64
