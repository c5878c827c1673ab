"""How much working memory a pass of a network takes per voxel of its input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from overtile.networks import UNet, unwrapped

# Measured on the CPU in float32 (docs/design.md): the peak of a pass is 1.3 (3D) to 3.0 (2D) times what the largest
# layer reads and writes: skips wait beside it, and the convolution library keeps copies in its own layout.
OVERHEAD = 3.0
_ESTIMATES: WeakKeyDictionary[nn.Module, dict[tuple[int, tuple[int, ...], torch.dtype], float]] = WeakKeyDictionary()
PAPER_BYTES = OVERHEAD * (128 + 64) * 4  # the 2015 network: 128 channels in, 64 out, 4 bytes each


def held_bytes(network: UNet) -> float:
    """Bytes that the skip connections of a streamed network keep, per voxel of a row of its input.

    A row of the highest skip waits until the network has seen ``2 * margin`` rows more, those below wait less.
    """
    geometry, dims = network.geometry, network.spatial_dims
    per_row = 0.0
    for level in range(geometry.levels):
        weights = [weight for weight in network.encoder[level].parameters() if weight.ndim > 1]
        per_row += weights[-1].shape[0] * weights[-1].element_size() / 2 ** (level * dims)
    return (2 * geometry.margin + geometry.step) * per_row


def activation_bytes(network: Callable[..., Any], channels: int, shape: tuple[int, ...]) -> float:
    """Bytes of working memory per input voxel and image of a batch, estimated without running the network.

    The network is traced on PyTorch's ``meta`` device, which computes shapes only, once for each shape; the peak is
    taken to be :data:`OVERHEAD` times what its largest layer reads and writes. What cannot be traced counts as that of
    2015.

    Args:
        network: any module or callable.
        channels: of its input.
        shape: a legal spatial input shape.
    """
    module = unwrapped(network)
    if not isinstance(module, nn.Module) or isinstance(module, torch.jit.ScriptModule):
        return PAPER_BYTES
    known = _ESTIMATES.setdefault(module, {})
    dtype = next((tensor.dtype for tensor in module.state_dict().values() if tensor.is_floating_point()), torch.float32)
    if (channels, shape, dtype) not in known:
        known[channels, shape, dtype] = _traced_bytes(module, channels, shape, dtype)
    return known[channels, shape, dtype]


def _traced_bytes(module: nn.Module, channels: int, shape: tuple[int, ...], dtype: torch.dtype) -> float:
    largest = 0

    def remember(_module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        nonlocal largest
        tensors = [tensor for tensor in (*inputs, output) if isinstance(tensor, torch.Tensor)]
        largest = max(largest, sum(tensor.numel() * tensor.element_size() for tensor in tensors))

    hooks = [leaf.register_forward_hook(remember) for leaf in module.modules() if not list(leaf.children())]
    state = {  # each tensor of each module once: a module may be part of the network under several names
        f"{path}.{name}".lstrip("."): tensor
        for path, part in module.named_modules()
        for name, tensor in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False))
    }
    try:
        image = torch.empty((1, channels, *shape), device="meta", dtype=dtype)
        on_meta = {name: tensor.to("meta") for name, tensor in state.items()}
        torch.func.functional_call(module, on_meta, (image,), tie_weights=False)
    except (RuntimeError, NotImplementedError, TypeError):  # an operator without shapes only, or more arguments
        return PAPER_BYTES
    finally:
        for hook in hooks:
            hook.remove()
    return OVERHEAD * largest / math.prod(shape) if largest else PAPER_BYTES
