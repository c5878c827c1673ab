"""Packs the bundle as the Model Zoo and MONAI Label read it: ``python scripts/pack_bundle.py cell_segmentation.zip``.

These programs read one config file at a time, so the overlays are baked into train.json and inference.json, and
metadata.json is made to describe the network that results. The package goes along: nothing needs to be installed.
The folder in the zip is called like the file, less a version, as in cell_segmentation_v0.4.0.zip; MONAI Label takes the
task from its name, so let it contain "segmentation".
"""

import argparse
import hashlib
import json
import re
import shutil
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent.parent / "bundle"))  # an installed copy wins

import yaml
from monai.bundle import ConfigParser
from monai.bundle.utils import merge_kv

from overtile.engines import LoadWeights
from overtile.geometry import Geometry

ROOT = Path(__file__).resolve().parent.parent
LARGE = 25_000_000  # bytes of a file beyond which the Model Zoo wants an address instead
AS_THEY_ARE = (
    "LICENSE",
    "configs/evaluate.json",
    "configs/inference_trt.json",
    "configs/gpu.yaml",
    "configs/mlflow.yaml",
    "configs/multi_gpu_train.yaml",
    "configs/logging.conf",
    "scripts/__init__.py",
    "scripts/get_data.py",
)


def write_bundle(folder: Path, overlays: Sequence[Path] = (), weights: Path | None = None) -> Path:
    """A complete bundle in a new folder, with the overlays' values in its train.json and inference.json.

    Args:
        folder: where; must not exist. Its name is the bundle's.
        overlays: config files over train.json or inference.json, the later over the earlier, such as the model.yaml
            that a training writes. inference.json takes what it has itself, and what that refers to. The key
            ``class_names``, a list with the background first, names the classes in metadata.json.
        weights: of the network that results: a flat dictionary, float32 or float16; becomes models/model.pt.

    Returns:
        The folder.

    Raises:
        FileExistsError: if the folder exists.
        FileNotFoundError: if an overlay or the weights do not.
        ValueError: if an overlay does not suit inference.json, or the weights are those of another network.
    """
    folder = Path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder} exists already: a bundle is written into a new folder")
    for overlay in overlays:
        if not Path(overlay).is_file():
            raise FileNotFoundError(f"there is no overlay {overlay}")
    train = baked(ROOT / "configs" / "train.json", overlays)
    inference = baked(ROOT / "configs" / "inference.json", overlays, only_known=True)
    parser = ConfigParser(dict(inference))
    if weights is not None:
        LoadWeights(str(weights), parser.get_parsed_content("network_def"))()
    metadata = json.loads((ROOT / "configs" / "metadata.json").read_text(encoding="utf-8"))
    described(metadata, parser, train.get("class_names"))

    ignored = shutil.ignore_patterns("__pycache__", "*.py[cod]", ".*")
    shutil.copytree(ROOT / "bundle" / "overtile", folder / "bundle" / "overtile", ignore=ignored)
    for name in (*AS_THEY_ARE, *(["configs/3d.yaml"] if inference["spatial_dims"] == 2 else []), *documents()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    for name, content in {"train": train, "inference": inference, "metadata": metadata}.items():
        text = json.dumps(content, indent=4, ensure_ascii=False) + "\n"
        (folder / "configs" / f"{name}.json").write_text(text, encoding="utf-8")
    if overlays:  # their commands need no model.yaml here
        for document in folder.rglob("*.md"):
            document.write_text(document.read_text(encoding="utf-8").replace(",'models/model.yaml'", ""), "utf-8")
    if weights is not None:
        (folder / "models").mkdir(exist_ok=True)
        shutil.copyfile(weights, folder / "models" / "model.pt")
    return folder


def baked(file: Path, overlays: Sequence[Path], only_known: bool = False) -> dict[str, Any]:
    """A config file with the overlays' values, as MONAI merges a list of files.

    Args:
        file: the config file below.
        overlays: those over it.
        only_known: take only what replaces or changes a key of the file, and what those values refer to.

    Raises:
        ValueError: with ``only_known``, if something would then be referred to that is nowhere.
    """
    parser = ConfigParser(ConfigParser.load_config_file(file))
    pairs = [pair for overlay in overlays for pair in ConfigParser.load_config_file(overlay).items()]
    known = set(parser.get())
    if only_known:
        new = {key for key, _ in pairs if key == _top(key)}
        while more := new & _references([value for key, value in pairs if _top(key) in known]) - known:
            known |= more
    for key, value in pairs:
        if key != "_desc_" and (_top(key) in known or not only_known):
            merge_kv(parser, key, value)
    config: dict[str, Any] = parser.get()
    if only_known and (missing := _references(config) - set(config)):
        raise ValueError(
            f"{file.name} with {', '.join(map(str, overlays))} refers to {', '.join(sorted(missing))}, which it "
            "does not have: bake in overlays that say what the network is, not how or where it is trained"
        )
    return config


def _top(key: str) -> str:
    """The top-level key of a config's ``+path#to::a#value``."""
    return re.split("#|::", key.lstrip("+"))[0]


def _references(content: Any) -> set[str]:
    """Top-level keys that ``@`` and ``%`` refer to anywhere in a config."""
    return set(re.findall(r"(?<!\w)[@%]([A-Za-z_]\w*)", json.dumps(content)))


def described(metadata: dict[str, Any], parser: ConfigParser, class_names: Sequence[str] | None = None) -> None:
    """Makes metadata describe the network of an inference config: its shapes, channels and classes.

    Raises:
        ValueError: if there is not one name for each class.
    """
    dims, channels, classes = map(parser.get_parsed_content, ("spatial_dims", "in_channels", "out_channels"))
    instances = parser.get_parsed_content("has_instances")
    names = list(class_names or ["background", *(f"class {number}" for number in range(1, classes))])
    if instances and not class_names:
        names[1:2] = ["cell"]
    if len(names) != classes:
        raise ValueError(f"class_names must name the {classes} classes, the background first, got {names}")
    image, pred = (metadata["network_data_format"][way][key] for way, key in (("inputs", "image"), ("outputs", "pred")))
    given, answered = shapes(parser.get_parsed_content("geometry"))
    colours = ["image"] if channels == 1 else [f"channel {number}" for number in range(channels)]
    for tensor, shape, labels in ((image, given, colours), (pred, answered, names)):
        tensor["num_channels"] = len(labels)
        tensor["channel_def"] = {str(number): label for number, label in enumerate(labels)}
        tensor["spatial_shape"] = [shape] * dims
    metadata["pred_classes"] = f"{classes} channels: {', '.join(names)}"
    if not instances:
        metadata["label_classes"] = ", ".join(f"{number} {name}" for number, name in enumerate(names))


def shapes(geometry: Geometry) -> tuple[int | str, int | str]:
    """A network's legal input size and that of its output, as MONAI writes them: legal with n = 1 at the latest.

    Examples:
        >>> shapes(Geometry(levels=4)), shapes(Geometry(levels=3, padding="same"))
        (('16*n+172', '16*n-12'), ('8*n+8', '8*n+8'))
        >>> shapes(Geometry(levels=0, padding="same", margin=28, tile=224))
        (224, 224)
    """
    if geometry.tile is not None:
        return geometry.tile, geometry.output_size(geometry.tile)
    smallest = geometry.smallest_input
    if geometry.padding == "same":
        smallest += geometry.step  # one voxel at the bottom of the U has no mean and variance to normalise it by
    given, answered = (size - geometry.step for size in (smallest, geometry.output_size(smallest)))
    return f"{geometry.step}*n{given:+d}", f"{geometry.step}*n{answered:+d}"


def documents() -> Iterator[str]:
    """The model card, the files of the bundle that it links to, and licences of data."""
    card = ROOT / "docs" / "README.md"
    yield "docs/README.md"
    for link in re.findall(r"\]\(([^)#]+)", card.read_text(encoding="utf-8")):
        target = (card.parent / link).resolve()
        if target.is_file() and ROOT in target.parents:
            yield target.relative_to(ROOT).as_posix()
    yield from (f"docs/{file.name}" for file in sorted(card.parent.glob("*license*")))


def move_out_weights(folder: Path, url: str) -> None:
    """Puts large_files.yml in the place of weights that are too large for the Model Zoo; others stay."""
    weights = folder / "models" / "model.pt"
    if weights.is_file() and weights.stat().st_size > LARGE:
        digest = hashlib.sha256(weights.read_bytes()).hexdigest()
        entry = {"path": "models/model.pt", "url": url, "hash_val": digest, "hash_type": "sha256"}
        (folder / "large_files.yml").write_text(yaml.safe_dump({"large_files": [entry]}, sort_keys=False), "utf-8")
        weights.unlink()


def write_zip(folder: Path, archive: Path) -> None:
    """The folder as a zip that depends on nothing but its content: files sorted, without their times."""
    with zipfile.ZipFile(archive, "w") as packed:
        for file in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(f"{folder.name}/{file.relative_to(folder).as_posix()}")  # of 1 January 1980
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, file.read_bytes(), zipfile.ZIP_DEFLATED)


def main() -> int:
    """Read the command line, pack, and say what was written; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("destination", type=Path, metavar="DESTINATION.zip", help="its name becomes the bundle's")
    parser.add_argument("--weights", type=Path, help="default: models/model.pt, if there is one")
    baking = "config files to bake in; default: the .yaml of the same name beside the weights, if there is one"
    parser.add_argument("--config_file", type=Path, nargs="*", metavar="OVERLAY", help=baking)
    large = "where the weights will be: if they are larger than 25 MB, large_files.yml says so and they stay out"
    parser.add_argument("--large_files_url", metavar="URL", help=large)
    options = parser.parse_args()
    weights = options.weights or next(ROOT.glob("models/model.pt"), None)
    beside = [weights.with_suffix(".yaml")] if weights and weights.with_suffix(".yaml").is_file() else []
    overlays = beside if options.config_file is None else options.config_file
    name = re.sub(r"_v\d+(\.\d+)*$", "", options.destination.stem)
    try:
        if options.destination.suffix != ".zip":
            raise ValueError(f"the destination must end in .zip, got {options.destination}")
        with TemporaryDirectory() as place:
            folder = write_bundle(Path(place, name), overlays, weights)
            if options.large_files_url:
                move_out_weights(folder, options.large_files_url)
            options.destination.parent.mkdir(parents=True, exist_ok=True)
            write_zip(folder, options.destination)
    except (OSError, ValueError) as error:
        print(f"not packed: {error}", file=sys.stderr)
        return 1
    print(f"{options.destination}: bundle {name}, {options.destination.stat().st_size / 1e6:.1f} MB")
    print("weights:", weights or "none", "  baked in:", ", ".join(map(str, overlays)) or "nothing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
