"""What a bioimage.io package says of a network: its ``rdf.yaml`` and its README."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from overtile.exports.formats import OPSET
from overtile.exports.halo import WithHalo
from overtile.exports.model_card import ModelCard, TrainingData

FORMAT = "0.5.4"  # bioimageio.spec writes its newest
EPSILON = 1e-6  # added to an image's standard deviation: the format's default
TOLERANCE = {"relative_tolerance": 0.0, "absolute_tolerance": 1e-4, "mismatched_elements_per_million": 0}


def description(
    card: ModelCard,
    network: WithHalo,
    shape: Sequence[int],
    options: Mapping[str, Any],
    attachments: Sequence[str],
) -> dict[str, Any]:
    """The content of ``rdf.yaml``, whose files have the names that :func:`write_package` gives them.

    Args:
        card: what people should know of the network.
        network: with its halo.
        shape: (B, C, *spatial) of the test image.
        options: keyword arguments with which the network's class builds it again.
        attachments: names of further files.
    """
    space = _space(len(shape) - 2)
    size = {"min": network.smallest_input, "step": network.step}
    described = {
        "type": "model",
        "format_version": FORMAT,
        "name": card.name,
        "description": card.description,
        "version": card.version,
        "authors": [{"name": name} for name in card.authors],
        "license": card.licence,
        "cite": [{"text": text, "doi": doi} for text, doi in card.papers],
        "tags": [*card.tags],
        "documentation": "README.md",
        "covers": ["cover.png"],
        "attachments": [{"source": name} for name in attachments],
        "inputs": [
            {
                "id": "image",
                "axes": _axes(
                    [f"channel{number}" for number in range(shape[1])],
                    {axis: {"size": size, "concatenable": True} for axis in space},
                ),
                "data": {"type": "float32"},
                "test_tensor": {"source": "test_image.npy"},
                "sample_tensor": {"source": "sample_image.tif"},
                "pad": {"mode": "reflect"},
                "preprocessing": [{"id": "zero_mean_unit_variance", "kwargs": {"axes": space, "eps": EPSILON}}],
            }
        ],
        "outputs": [
            {
                "id": "probabilities",
                "axes": _axes(
                    card.classes,
                    {axis: {"size": {"tensor_id": "image", "axis_id": axis}, "halo": network.halo} for axis in space},
                ),
                "data": {"type": "float32", "range": [0.0, 1.0]},
                "test_tensor": {"source": "test_probabilities.npy"},
                "sample_tensor": {"source": "sample_probabilities.tif"},
                "postprocessing": [{"id": "softmax", "kwargs": {"axis": "channel"}}],
            }
        ],
        "weights": _weights(options),
        "config": {"bioimageio": {"reproducibility_tolerance": [TOLERANCE]}},
    }
    if card.training_data is not None:
        described["training_data"] = _data_set(card.training_data)
    return described


def read_me(card: ModelCard, network: WithHalo, spatial_dims: int) -> str:
    """The package's documentation: how it is used, and the model card.

    Args:
        card: what people should know of the network.
        network: with its halo.
        spatial_dims: 2 or 3.
    """
    axes, classes = ", ".join(_space(spatial_dims)), ", ".join(card.classes)
    return f"""# {card.name}

{card.description}

## Use

Input: an image with the axes {axes}, of any values; the program that runs this package brings each channel to zero mean
and unit variance, over the whole image. Output: probabilities of {classes}.
Objects are the connected parts in which the last one is above 0.5.

Tiles have sizes of {network.smallest_input} + {network.step} n along each axis, of which {network.halo} on each side
(the halo) are context: the answer there is without meaning and cropped by the program. Tiles then meet without a seam,
and tiles whose kept parts begin at multiples of {network.step} give what one pass over the whole image gives. At the
border of the image the context is the image's mirror image, as NumPy's `reflect` makes it.

## Validation

Compare the objects with annotated ones by F1 at an intersection over union of 0.5 to 0.9, on images that the network
has not learnt from. `test_image.npy` and `test_probabilities.npy` are input and output of one pass.

{card.text.strip()}
"""


def _space(dims: int) -> list[str]:
    return ["z", "y", "x"][-dims:]


def _axes(channels: Sequence[str], space: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Batch, channel and the axes of space, in the order of the tensor."""
    axes: list[dict[str, Any]] = [{"type": "batch"}, {"type": "channel", "channel_names": [*channels]}]
    return axes + [{"type": "space", "id": axis, **said} for axis, said in space.items()]


def _weights(options: Mapping[str, Any]) -> dict[str, Any]:
    version = torch.__version__.split("+")[0]
    original = "pytorch_state_dict"
    return {
        original: {
            "source": "weights.pt",
            "pytorch_version": version,
            "architecture": {"source": "network.py", "callable": "network", "kwargs": dict(options)},
        },
        "torchscript": {"source": "weights.ts", "pytorch_version": version, "parent": original},
        "onnx": {"source": "weights.onnx", "opset_version": OPSET, "parent": original},
    }


def _data_set(data: TrainingData) -> dict[str, Any]:
    """A data set that bioimage.io does not hold itself."""
    works = [work.strip() for work in data.citation.split(";")]  # several as "A et al. 2012, doi:...; B et al. 2019"
    named = [(work, re.search(r"doi:(10\.\S+)", work)) for work in works]
    described = {
        "type": "dataset",
        "format_version": "0.3.0",
        "name": data.name,
        "description": f"{data.name}, see {data.source}",
        "source": data.source,
        "authors": [{"name": re.sub(r",? *doi:.*", "", work).replace("/", " ")} for work in works],
        "cite": [{"text": work, "doi": doi[1]} for work, doi in named if doi],
        "tags": [data.name],
    }
    return described if data.licence is None else {**described, "license": data.licence}
