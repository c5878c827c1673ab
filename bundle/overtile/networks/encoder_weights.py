"""Weights for a network's way down from a file of the user's; nothing is downloaded."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
_PREFIX = "encoder."
_WRAPPINGS = ("model", "state_dict", "network")


def load_encoder(network: Network, path: str | Path | None, *, ignore_others: bool = False) -> Network:
    """The network, its ``encoder`` filled with weights from a file: all of it, or nothing and an error.

    The file holds a state dictionary, as ``torch.save`` writes it, also under the key ``model``, ``state_dict`` or
    ``network`` (the ``last.ckpt`` of a training): of a whole network of the same kind (``encoder.*`` is taken), or of
    its encoder alone. A :class:`SwinUNet`'s encoder has the names of the Swin Transformer's release, whose files have
    parts that it does not have (the classifier, the deeper third stage, masks): those are left out on demand.

    Args:
        network: with an attribute ``encoder``; changed in place.
        path: of the file; None leaves the network as it is.
        ignore_others: leave out entries of the file that the encoder does not have, instead of refusing them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the network has no encoder, the file cannot be read or holds no state dictionary, or one that
            lacks tensors of the encoder, has others, or has some of another shape.
    """
    if path is None:
        return network
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise ValueError(
            f"a {type(network).__name__} has no attribute encoder to load weights into; UNet, MultiResUNet, SwinUNet "
            "and TransUNet of overtile.networks have one"
        )
    found = _encoder_state(Path(path).expanduser())
    wanted = encoder.state_dict()
    problems = {
        "missing in the file": [name for name in wanted if name not in found],
        "only in the file": [] if ignore_others else [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
            for name in wanted
            if name in found and found[name].shape != wanted[name].shape
        ],
    }
    if any(problems.values()):
        told = "; ".join(f"{len(names)} {what}: {_some(names)}" for what, names in problems.items() if names)
        raise ValueError(
            f"the weights in {path} do not fit the encoder of this {type(network).__name__}, nothing was loaded: {told}"
        )
    encoder.load_state_dict({name: found[name] for name in wanted})
    return network


def _encoder_state(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of the encoder by name."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file with weights at {path}; nothing is downloaded, give one of your own")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, LookupError, ValueError, pickle.UnpicklingError) as error:  # what any bytes cause
        raise ValueError(
            f"{path} cannot be read as weights: it is no file of torch.save, or holds more than tensors, which might "
            "run code when loaded; save the weights alone with torch.save(network.state_dict(), path)"
        ) from error
    for key in _WRAPPINGS:
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(
            f"{path} holds no state dictionary (names and tensors), bare or under one of the keys "
            f"{', '.join(_WRAPPINGS)}; save one with torch.save(network.state_dict(), path)"
        )
    own = {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
    return own or dict(state)


def _some(names: list[str], at_most: int = 3) -> str:
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown}, ..."
