"""Writes trained weights as a bioimage.io package: ``python scripts/export_bioimageio.py DESTINATION.zip``.

Fiji (deepImageJ), ilastik and QuPath read that format. It needs ``pip install ".[bioimageio]"``; docs/exports.md tells
what is in the package and how it was checked.
"""

import argparse
import json
import re
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "bundle"))  # an installed copy wins

import numpy as np
from monai.bundle import ConfigParser
from monai.transforms import NormalizeIntensityd

from overtile.data import sample_folder
from overtile.engines import LoadWeights
from overtile.exports import ModelCard, TrainingData, write_package

ROOT = Path(__file__).resolve().parent.parent
PAPERS = {
    "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation. MICCAI 2015": (
        "10.1007/978-3-319-24574-4_28"
    ),
    "Cicek, Abdulkadir, Lienkamp, Brox, Ronneberger: 3D U-Net: Learning Dense Volumetric Segmentation from Sparse "
    "Annotation. MICCAI 2016": "10.1007/978-3-319-46723-8_49",
}
LICENCES = {"CC0": "CC0-1.0", "CC BY 4.0": "CC-BY-4.0", "CC BY-SA 4.0": "CC-BY-SA-4.0"}  # ours to SPDX's


def main() -> int:
    """Read the command line and write the package; the exit status."""
    options = command_line()
    try:
        parser = configuration(options.config_file, options.weights)
        network = parser.get_parsed_content("network_def").eval()
        LoadWeights(str(options.weights), network)()
        dims, channels = parser.get_parsed_content("spatial_dims"), parser.get_parsed_content("in_channels")
        sample = options.sample or Path(sample_folder(dims)) / "training" / "images" / "top.tif"
        path = write_package(
            network,
            network_options(parser),
            loaded(parser, sample),
            card(parser, options.documentation or options.weights.parent / "README.md"),
            options.destination,
            attachments=attachments(parser, sample),
        )
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(
        f"{path}: {path.stat().st_size / 1e6:.1f} MB, {dims}D, {channels} channel(s); now try: bioimageio test {path}"
    )
    return 0


def command_line() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("destination", type=Path, help="the package, a .zip")
    weights = "the weights (default: models/model.pt)"
    parser.add_argument("--weights", type=Path, default=ROOT / "models" / "model.pt", metavar="FILE", help=weights)
    overlays = "over configs/inference.json: what the weights were trained with (default: the .yaml beside the weights)"
    parser.add_argument("--config_file", type=Path, nargs="+", metavar="OVERLAY", help=overlays)
    sample = "a real image for the package's test and cover (default: the embedded one)"
    parser.add_argument("--sample", type=Path, metavar="IMAGE", help=sample)
    text = "the model card, Markdown (default: the README.md beside the weights)"
    parser.add_argument("--documentation", type=Path, metavar="FILE", help=text)
    options = parser.parse_args()
    if options.config_file is None:
        beside = options.weights.with_suffix(".yaml")
        options.config_file = [beside] if beside.is_file() else []
    return options


def configuration(overlays: list[Path], weights: Path) -> ConfigParser:
    """The inference configuration of the weights."""
    if not weights.is_file():
        raise ValueError(f"no trained weights at {weights}: train first, or say where they are with --weights")
    missing = [str(file) for file in overlays if not file.is_file()]
    if missing:
        raise ValueError(f"there is no config file {' and no '.join(missing)}")
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / "inference.json"), *map(str, overlays)])
    parser.read_meta(str(ROOT / "configs" / "metadata.json"))
    return parser


def network_options(parser: ConfigParser) -> dict[str, object]:
    """With which keyword arguments the network is made."""
    arguments = parser.get("network_def")
    return {name: parser.get_parsed_content(f"network_def::{name}") for name in arguments if not name.startswith("_")}


def loaded(parser: ConfigParser, file: Path) -> np.ndarray:
    """An image (C, y, x) or (C, z, y, x) as the network's preprocessing has it before it normalises it."""
    image = {"image": str(file)}
    for transform in parser.get_parsed_content("preprocessing").transforms:
        if not isinstance(transform, NormalizeIntensityd):
            image = transform(image)
    return np.swapaxes(np.asarray(image["image"]), 1, -1)  # MONAI's loaders put x first


def attachments(parser: ConfigParser, sample: Path) -> dict[str, bytes]:
    """The sample as its file is, and the inference configuration as one file."""
    known = {name: said for name, said in parser.get().items() if name != "_meta_"}
    return {f"original{sample.suffix}": sample.read_bytes(), "inference.json": json.dumps(known, indent=4).encode()}


def card(parser: ConfigParser, documentation: Path) -> ModelCard:
    """What the bundle's metadata and an overlay's ``experiment`` say of the weights.

    Pictures of the documentation, and links into the repository, stay behind.
    """
    meta, experiment = parser["_meta_"], parser.get("experiment")
    classes, dims = parser.get_parsed_content("out_channels"), parser.get_parsed_content("spatial_dims")
    named = [*meta["network_data_format"]["outputs"]["pred"]["channel_def"].values()]
    data = None
    if experiment is not None:
        known = LICENCES.get(experiment["licence"])
        data = TrainingData(experiment["name"], experiment["source"], experiment["citation"], known)
    text = documentation.read_text(encoding="utf-8") if documentation.is_file() else ""
    scale = parser.get_parsed_content("scale")
    if scale != 1:
        text = f"**Scale images by {scale} along every axis first**: the network was trained at that size.\n\n{text}"
    return ModelCard(
        name=re.sub(r"[^\w+\-() ]", " ", meta["name"] + (f" ({data.name})" if data else "")),
        description=meta["description"],
        version=meta["version"],
        authors=[meta["authors"]],
        licence="Apache-2.0",
        papers=[*PAPERS.items()],
        classes=named if len(named) == classes else [f"class{number}" for number in range(classes)],
        tags=["unet", "pytorch", "segmentation", "2d" if dims == 2 else "3d", "overtile", "monai"],
        text=re.sub(r"(?<!!)\[([^\]]*)\]\((?!http)[^)]*\)", r"\1", re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", text)),
        training_data=data,
    )


if __name__ == "__main__":
    sys.exit(main())
