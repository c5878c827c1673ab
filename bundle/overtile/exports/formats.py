"""A network as one file that runs without its Python code."""

from __future__ import annotations

import os
import warnings

import torch
from torch import nn

OPSET = 17  # of ONNX; ONNX Runtime 1.13 (2022) and later run it


def write_torchscript(network: nn.Module, path: str | os.PathLike[str]) -> None:
    """Writes a network as TorchScript, for inputs of all sizes that it takes.

    Args:
        network: in evaluation mode; its ``forward`` must be scriptable, as that of :class:`overtile.networks.UNet` is.
        path: of the file.

    Raises:
        ValueError: for a network in training mode.
    """
    _check_mode(network)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # PyTorch's, of TorchScript: Fiji and ilastik run it
        torch.jit.save(torch.jit.script(network), os.fspath(path))  # type: ignore[no-untyped-call]


def write_onnx(network: nn.Module, example: torch.Tensor, path: str | os.PathLike[str], image: str = "image") -> None:
    """Writes a network as ONNX, for batches and inputs of all sizes that it takes.

    By tracing: the exporter by ``torch.export`` takes 5 to 20 s for a small network, and needs one package more.

    Args:
        network: in evaluation mode; any module of one tensor that returns one.
        example: an input (B, C, *spatial).
        path: of the file.
        image: what the input is called in the file; the output is ``"logits"``.

    Raises:
        ValueError: for a network in training mode.
    """
    _check_mode(network)
    free = [0, *range(2, example.ndim)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what tracing says of sizes, which stay free, and PyTorch of tracing
        torch.onnx.export(
            network,
            (example,),
            os.fspath(path),
            dynamo=False,
            opset_version=OPSET,
            input_names=[image],
            output_names=["logits"],
            dynamic_axes={image: free, "logits": free},
        )


def _check_mode(network: nn.Module) -> None:
    if network.training:
        raise ValueError("a network is exported in evaluation mode: call eval() on it first")
