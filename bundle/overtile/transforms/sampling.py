"""Values of images between their voxels; outside, an image continues as its mirror image."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F

Mode = Literal["bilinear", "bicubic", "nearest"]
MODES: tuple[Mode, ...] = get_args(Mode)
PAGE = 4096  # bytes of memory
LARGEST_ROOM = 2**22  # numbers: 16 MiB for each thread
# Voxels worked on at a time: gathered, so that their positions stay in the processor's cache; by grid_sample, so that
# its memory stays below the size from which the system is asked for it anew at each call
SLAB = 2**16
GRID = 2**19


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
        """The positions along a part of the first axis, (d, *part), float32; valid until the next call."""
        return _product("positions", self.rows[:, slab], self.columns)

    def limits(self) -> list[tuple[float, float]]:
        """Numbers between which the positions along each axis lie, not the closest ones."""
        smallest, largest = self.columns.aminmax(dim=1)
        ends = torch.stack([self.rows * smallest, self.rows * largest])
        low = ends.amin(dim=0).sum(dim=-1).flatten(1).amin(dim=1)
        high = ends.amax(dim=0).sum(dim=-1).flatten(1).amax(dim=1)
        return list(zip(low.tolist(), high.tolist(), strict=True))

    def __getitem__(self, part: tuple[slice, ...]) -> Positions:
        """The positions of a part, a slice per axis."""
        return Positions(self.rows[(slice(None), *part[:-1])], self.columns[:, part[-1]].contiguous())

    def inset(self, voxels: int) -> tuple[slice, ...]:
        """The part without so many voxels on each side."""
        return tuple(slice(voxels, size - voxels) for size in self.size)


def sample(
    images: Sequence[torch.Tensor], modes: Sequence[Mode], positions: Positions, insets: Sequence[int]
) -> list[torch.Tensor]:
    """The values of images of one spatial shape and device, (C, *shape), at the same positions, (C, *size) each.

    Args:
        images: what to read.
        modes: ``"nearest"`` keeps the type and invents no value: for labels. ``"bilinear"`` (trilinear in 3D) and
            ``"bicubic"`` (2D only) return float32.
        positions: where to read.
        insets: how many positions to leave out on each side, for every image.

    Examples:
        >>> diagonal = Positions(torch.ones(2, 1, 1), torch.tensor([[0.25, -1.0, 3.5]]))  # mirrored at 0 and at 2
        >>> image = torch.arange(9).reshape(1, 3, 3)
        >>> sample([image, image], ["nearest", "bilinear"], diagonal, [0, 0])
        [tensor([[[0, 4, 0]]]), tensor([[[1., 4., 2.]]])]
    """
    images = [image.detach() for image in images]
    if images[0].ndim == 4 and positions.device.type == "cpu":  # where PyTorch's own is not vectorised
        return _by_slabs(images, modes, positions, insets)
    parts: list[list[torch.Tensor]] = [[] for _ in images]
    for slab in _slabs(positions, GRID):
        _, *whole = positions.inset(0)
        box, grid = _grid(positions[(slab, *whole)], images[0].shape[1:])
        for image, mode, inset, of_image in zip(images, modes, insets, parts, strict=True):
            rows, *others = positions.inset(inset)
            rows = slice(max(rows.start, slab.start), min(rows.stop, slab.stop))
            if rows.start < rows.stop:
                inside = grid[(slice(None), slice(rows.start - slab.start, rows.stop - slab.start), *others)]
                values = _grid_sample(image[(slice(None), *box)], inside.contiguous(), mode)
                of_image.append(_gather([image], [mode], positions[(rows, *others)])[0] if values is None else values)
    return [_joined(of_image) for of_image in parts]


def _joined(parts: Sequence[torch.Tensor]) -> torch.Tensor:
    """One tensor of parts that follow each other along the first spatial axis."""
    if len(parts) == 1:
        return parts[0]
    channels, _, *others = parts[0].shape
    whole = _large(parts[0], (channels, sum(part.shape[1] for part in parts), *others), parts[0].dtype)
    return torch.cat(list(parts), dim=1, out=whole)


def _large(like: torch.Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Memory for a result: NumPy asks for large pages where it is much, which the system provides in far less time."""
    if like.device.type != "cpu":
        return like.new_empty(shape, dtype=dtype)
    return torch.from_numpy(np.empty(math.prod(shape) * dtype.itemsize, dtype=np.uint8)).view(dtype).view(shape)


def _grid_sample(image: torch.Tensor, grid: torch.Tensor, mode: Mode) -> torch.Tensor | None:
    """None where float32 does not hold every value of a label."""
    source = _scratch("image", tuple(image.shape), image.device).copy_(image)  # faster than to sample in place
    always = image.dtype.itemsize < 4 or image.dtype == torch.float32
    if mode == "nearest" and not always and not torch.equal(source.to(image.dtype), image):
        return None
    values = F.grid_sample(source[None], grid, mode=mode, padding_mode="reflection", align_corners=True)[0]
    return values.to(image.dtype) if mode == "nearest" else values


def _grid(positions: Positions, shape: Sequence[int]) -> tuple[list[slice], torch.Tensor]:
    """The part of an image that is read, and the positions in it from -1 to 1, x first, as ``grid_sample`` wants them.

    One product: the axes are columns side by side, scaled beforehand.
    """
    dims, *size, terms = positions.rows.shape
    rows, columns = positions.rows, positions.columns
    to_all = columns.new_zeros(dims * terms + 1, columns.shape[1], dims)  # the last term is the offset
    scales, box = [], []
    for axis, (length, (low, high)) in enumerate(zip(shape, positions.limits(), strict=True)):
        first, last = math.floor(low) - 1, math.ceil(high) + 1  # one more for bicubic
        if first < 0:  # mirrored there, and read as far inside
            first, last = 0, max(last, -first)
        elif last >= length:
            first, last = min(first, 2 * (length - 1) - last), length - 1
        if first < 0 or last >= length:
            first, last = 0, length - 1
        box.append(slice(first, last + 1))
        scales.append(2 / max(last - first, 1))
        to_all[axis * terms : (axis + 1) * terms, :, -1 - axis] = columns
        to_all[-1, :, -1 - axis] = -1 - first * scales[-1]
    scaled = torch.stack([along * scale for along, scale in zip(rows, scales, strict=True)], dim=-2)
    from_all = F.pad(scaled.flatten(-2).flatten(0, -2), (0, 1), value=1.0)
    grid = _product("grid", from_all, to_all.flatten(1))
    return box, grid.view(1, *size, columns.shape[1], dims)


def _by_slabs(
    images: Sequence[torch.Tensor], modes: Sequence[Mode], positions: Positions, insets: Sequence[int]
) -> list[torch.Tensor]:
    """The same by gathering, nearest or linear."""
    results: dict[int, torch.Tensor] = {}
    for inset in set(insets):
        chosen = [number for number, other in enumerate(insets) if other == inset]
        gathered = _gather([images[n] for n in chosen], [modes[n] for n in chosen], positions[positions.inset(inset)])
        results.update(zip(chosen, gathered, strict=True))
    return [results[number] for number in range(len(images))]


def _gather(images: Sequence[torch.Tensor], modes: Sequence[Mode], positions: Positions) -> list[torch.Tensor]:
    """Slab by slab, at all positions."""
    shape = images[0].shape[1:]
    strides = [math.prod(shape[axis + 1 :]) if size > 1 else 0 for axis, size in enumerate(shape)]
    index_type = torch.int32 if math.prod(shape) < 2**31 else torch.int64
    last_start = torch.tensor([max(size - 2, 0.0) for size in shape], device=positions.device)
    last_start = last_start.view(-1, *(1,) * len(shape))
    results = [
        _large(image, (len(image), *positions.size), image.dtype if mode == "nearest" else torch.float32)
        for image, mode in zip(images, modes, strict=True)
    ]
    channels = [_gathered_as(image, mode).reshape(len(image), -1) for image, mode in zip(images, modes, strict=True)]
    for slab in _slabs(positions, SLAB):
        where = positions.part(slab)
        for size, position in zip(shape, where, strict=True):
            _mirror(position, size)
        if "nearest" in modes:
            voxel = _flat(where.round(), strides, index_type)
        if "bilinear" in modes:
            start = torch.minimum(where.floor(), last_start)
            fractions = where.sub_(start).flatten(1).unbind()
            corner = _flat(start, strides, index_type)
        for image, mode, result in zip(channels, modes, results, strict=True):
            for values, written in zip(image, result[:, slab], strict=True):
                nearest = mode == "nearest"
                read = values.index_select(0, voxel) if nearest else _lerp(values, corner, strides, fractions)
                written.copy_(read.view(written.shape))
    return results


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


def _product(room: str, rows: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
    """``rows @ columns`` in float32. On a GPU computed in float64: in TF32 it would move voxels by 0.3."""
    with torch.autocast(rows.device.type, enabled=False):
        if rows.device.type != "cpu":
            return torch.matmul(rows, columns).float()
        return torch.matmul(rows, columns, out=_scratch(room, (*rows.shape[:-1], columns.shape[1]), rows.device))


def _gathered_as(image: torch.Tensor, mode: Mode) -> torch.Tensor:
    """The image in a type that PyTorch can gather."""
    signed = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}.get(image.dtype)
    if signed is None:
        return image
    return image.view(signed) if mode == "nearest" else image.float()


def _flat(voxel: torch.Tensor, strides: Sequence[int], index_type: torch.dtype) -> torch.Tensor:
    """Indices into the flattened image of whole positions, (d, *size)."""
    result, *others = reversed(voxel.to(index_type).flatten(1).unbind())
    for stride, along in zip(strides[-2::-1], others, strict=True):
        result = torch.add(result, along, alpha=stride)
    return result


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
    if last == 0:
        return position.zero_()
    low, high = (float(limit) for limit in position.aminmax())
    if low < -last or high > 2 * last:  # further away than the first mirror image; exact for whole numbers below 2**24
        position.sub_((position / (2 * last)).floor_(), alpha=2 * last)
    if low < 0 or high > last:
        position.abs_().sub_(last).abs_().neg_().add_(last)
    return position


def _slabs(positions: Positions, voxels: int) -> Iterator[slice]:
    """Parts of the first axis, of about so many voxels on the CPU; elsewhere the whole."""
    size, *others = positions.size
    step = max(voxels // math.prod(others), 1) if positions.device.type == "cpu" else size
    return (slice(start, min(start + step, size)) for start in range(0, size, step))
