"""Tiles on their way to a GPU and back, while it computes others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

import torch

Place = TypeVar("Place")


def sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """The tensor on a device; to a GPU without waiting for what it is computing."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def received(
    pieces: Iterable[tuple[Place, torch.Tensor]], device: torch.device
) -> Iterator[tuple[Place, torch.Tensor]]:
    """The pieces on a device, in their order; from a GPU each one only when the next is on its way.

    So the GPU has work while the piece before is put in its place.
    """
    waiting: tuple[Place, torch.Tensor, torch.cuda.Event] | None = None
    for place, piece in pieces:
        if not (piece.device.type == "cuda" and device.type == "cpu"):
            yield place, piece.to(device)
            continue
        copy = torch.empty(piece.shape, dtype=piece.dtype, pin_memory=True)
        copy.copy_(piece, non_blocking=True)
        copied = torch.cuda.Event()
        copied.record(torch.cuda.current_stream(piece.device))
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = place, copy, copied
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(place: Place, copy: torch.Tensor, copied: torch.cuda.Event) -> tuple[Place, torch.Tensor]:
    copied.synchronize()
    return place, copy
