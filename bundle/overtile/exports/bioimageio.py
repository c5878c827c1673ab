"""A network as a bioimage.io package, for Fiji (deepImageJ), ilastik, QuPath and all that read that format."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
import torch
import yaml
from numpy.typing import NDArray
from torch import nn

from overtile.exports.cover import cover
from overtile.exports.description import EPSILON, description, read_me
from overtile.exports.formats import write_onnx, write_torchscript
from overtile.exports.halo import WithHalo
from overtile.exports.model_card import ModelCard
from overtile.geometry import read_mirrored

Image = NDArray[np.float32]


def write_package(
    network: nn.Module,
    options: Mapping[str, Any],
    image: Image,
    card: ModelCard,
    destination: str | os.PathLike[str],
    attachments: Mapping[str, bytes] | None = None,
) -> Path:
    """Writes a network as a bioimage.io package and checks it against the format; the package's path.

    In it are the weights as TorchScript, as ONNX and as PyTorch's dictionary with the network's source, a real image
    as test, and what programs must know: that images are brought to zero mean and unit variance channel by channel,
    which sizes tiles have, how much of an answer is to be cropped (see :class:`WithHalo`), and the soft-max behind it.

    Args:
        network: in evaluation mode, trained on images (x, y) or (x, y, z) as MONAI's loaders hand them over, whose
            ``geometry`` says what it does to sizes.
        options: keyword arguments with which the network's class builds it again; plain values.
        image: (C, y, x) or (C, z, y, x) as it was loaded, not normalised.
        card: what people should know of it.
        destination: path of the ``.zip``.
        attachments: further files, by name.

    Raises:
        ImportError: without the package bioimageio.spec.
        ValueError: for a network in training mode or without geometry, or a description that the format does not
            allow.
    """
    spec = _bioimageio_spec()
    haloed = WithHalo(network, reverse_axes=True).train(network.training)
    raw = fitted(image, haloed)[None]
    normalised = torch.from_numpy(_normalised(raw))
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_torchscript(haloed, folder / "weights.ts")
        write_onnx(haloed, normalised, folder / "weights.onnx")
        torch.save(haloed.state_dict(), folder / "weights.pt")
        (folder / "network.py").write_text(_source(network), encoding="utf-8")
        with torch.no_grad():
            probabilities = haloed(normalised).softmax(1).numpy()
        for kind, array in {"image": raw, "probabilities": probabilities}.items():
            np.save(folder / f"test_{kind}.npy", array)
            tifffile.imwrite(folder / f"sample_{kind}.tif", array, compression="zlib")
        cover(raw[0], probabilities[0], haloed.halo).save(folder / "cover.png")
        (folder / "README.md").write_text(read_me(card, haloed, raw.ndim - 2), encoding="utf-8")
        for file, content in (attachments or {}).items():
            (folder / file).write_bytes(content)
        described = description(card, haloed, raw.shape, options, [*(attachments or {})])
        (folder / "rdf.yaml").write_text(yaml.safe_dump(described, sort_keys=False), encoding="utf-8")
        model = spec.load_description(folder / "rdf.yaml", format_version="latest")
        if isinstance(model, spec.InvalidDescr):
            raise ValueError(f"this is no valid bioimage.io model:\n{model.validation_summary.format()}")
        return Path(spec.save_bioimageio_package(model, output_path=Path(destination)))


def fitted(image: Image, network: WithHalo) -> Image:
    """The largest part of an image, about its centre, of a size that a network takes; mirrored where it is too small.

    Args:
        image: (C, *spatial).
        network: whose sizes it shall have.
    """
    window = []
    for size in image.shape[1:]:
        fits = max(size // network.step * network.step, network.smallest_input)
        start = (size - fits) // 2
        window.append(slice(start, start + fits))
    return np.ascontiguousarray(read_mirrored(image, window), dtype=np.float32)


def _normalised(images: Image) -> Image:
    """Every channel of (B, C, *spatial) with zero mean and unit variance, by the format's formula."""
    axes = tuple(range(2, images.ndim))
    mean, deviation = (measure(axes, np.float64, keepdims=True) for measure in (images.mean, images.std))
    return np.asarray((images - mean) / (deviation + EPSILON), dtype=np.float32)


def _source(network: nn.Module) -> str:
    """One Python file that builds the network with its halo, from PyTorch alone."""
    parts = ['"""A network of overtile, with its halo: network(**options)."""', "from __future__ import annotations"]
    needed = (module for known in (type(network), WithHalo) for module in _with_imports(known.__module__))
    for name in dict.fromkeys(needed):
        lines = inspect.getsource(sys.modules[name]).splitlines()
        own = [line for line in lines if not line.startswith(("from overtile.", "from __future__"))]
        parts.append("\n".join(own))
    parts.append(
        f"def network(**options):\n    return WithHalo({type(network).__name__}(**options), reverse_axes=True)\n"
    )
    return "\n\n\n".join(parts)


def _with_imports(name: str) -> Iterator[str]:
    """A module of the package behind those of the package whose classes and functions it has."""
    for imported in {getattr(value, "__module__", None): None for value in vars(sys.modules[name]).values()}:
        if isinstance(imported, str) and imported.startswith("overtile.") and imported != name:
            yield from _with_imports(imported)
    yield name


def _bioimageio_spec() -> Any:
    """A package that is imported on use: it is an extra."""
    try:
        return import_module("bioimageio.spec")
    except ImportError as error:
        remedy = 'pip install "overtile[bioimageio]"'
        raise ImportError(f"a bioimage.io package needs the package bioimageio.spec: {remedy}") from error
