"""The Model Zoo's checks, on the bundle as it would be packed now, or a given one: ``python scripts/verify_bundle.py``.

They are those of the Zoo's ci/verify_bundle.py in its mode "full", what its CONTRIBUTING asks for beyond, and what its
unit tests do with every bundle: a training, an evaluation and an inference on made-up images. One line for each; the
exit status is 1 if one fails. All of it happens in a copy, with the copy's own package.
"""

import argparse
import contextlib
import io
import json
import logging
import shutil
import subprocess
import sys
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import tifffile
import torch
from monai.bundle import (
    ConfigParser,
    ConfigWorkflow,
    ckpt_export,
    download_large_files,
    verify_metadata,
    verify_net_in_out,
)

ROOT = Path(__file__).resolve().parent.parent
LARGE = 25_000_000  # bytes of a file, at most, in the Zoo's repository
TOLERANCE = 1e-4  # between the logits of PyTorch and of TorchScript
BRIEF = {
    "train#trainer#max_epochs": 1,
    "steps_per_epoch": 2,
    "val_interval": 1,
    "output_size": 32,
    "num_workers": 0,
    "validation_names": None,
    "markers": False,
    "annotated_slices": None,
    "progress": False,
}


def check_package(folder: Path) -> None:
    """The package that the other checks use is the one in the bundle."""
    import overtile

    if folder not in Path(overtile.__file__).parents:
        raise ValueError(f"overtile comes from {overtile.__file__}")


def check_large_files(folder: Path) -> None:
    """No file is too large for the Zoo, and what large_files.yml names can be had and is what it says."""
    large = [str(file.relative_to(folder)) for file in folder.rglob("*") if file.stat().st_size > LARGE]
    if large:
        raise ValueError(f"larger than 25 MB: {', '.join(large)}; pack with --large_files_url")
    if list(folder.glob("large_files.*")):
        download_large_files(bundle_path=str(folder))


def check_files(folder: Path) -> None:
    """What a bundle must have, and what the Zoo prefers."""
    needed = ("LICENSE", "configs/metadata.json", "models/model.pt", "configs/inference.json", "docs/README.md")
    if missing := [name for name in needed if not (folder / name).is_file()]:
        raise ValueError(f"missing: {', '.join(missing)}")


def check_version(folder: Path) -> None:
    """The version is one that the changelog knows."""
    metadata = _read(folder, "metadata")
    if metadata["version"] not in metadata["changelog"]:
        raise ValueError(f"version {metadata['version']} is not in the changelog: {', '.join(metadata['changelog'])}")


def check_names(folder: Path) -> None:
    """The configs have the keys that the Zoo's tools override, and hold nobody's paths."""
    if not _read(folder, "metadata").get("name"):
        raise ValueError("metadata.json has no name")
    for config in ("train", "inference"):
        content = _read(folder, config)
        names = ("bundle_root", "ckpt_dir", "output_dir", "dataset_dir", "device", "network_def", "initialize", "run")
        if missing := [name for name in names if name not in content]:
            raise ValueError(f"{config}.json has no {', '.join(missing)}")
        if paths := [text for text in _strings(content) if text.startswith(("/", "~", "C:\\"))]:
            raise ValueError(f"{config}.json holds paths of one computer: {', '.join(paths)}")


def check_metadata(folder: Path) -> None:
    """metadata.json fits MONAI's schema, which is downloaded unless it is there."""
    schema = folder / "eval" / "schema.json"
    try:
        verify_metadata(str(folder / "configs" / "metadata.json"), filepath=str(schema))
    except OSError as error:
        raise ValueError(f"the schema cannot be downloaded ({error}): give the file with --schema") from error


def check_shapes(folder: Path) -> None:
    """The network answers an input of the shape that metadata.json declares, with as many channels as declared."""
    meta, config = (str(folder / "configs" / name) for name in ("metadata.json", "inference.json"))
    verify_net_in_out("network_def", meta_file=meta, config_file=config, bundle_root=str(folder))


def check_torchscript(folder: Path) -> None:
    """The weights fit the network, which TorchScript computes as PyTorch does, at two sizes."""
    meta, config = (str(folder / "configs" / name) for name in ("metadata.json", "inference.json"))
    weights, exported = str(folder / "models" / "model.pt"), str(folder / "models" / "verify_model.ts")
    places = {"filepath": exported, "ckpt_file": weights, "meta_file": meta, "config_file": config}
    ckpt_export("network_def", **places, bundle_root=str(folder))
    parser = ConfigParser(ConfigParser.load_config_file(config))
    network, geometry = (parser.get_parsed_content(key) for key in ("network_def", "geometry"))
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    scripted = torch.jit.load(exported, map_location="cpu").eval()
    for steps in (1, 3):
        sizes = [geometry.input_size(steps * geometry.step)] * parser["spatial_dims"]
        image = torch.rand(1, parser["in_channels"], *sizes)
        with torch.no_grad():
            difference = float((scripted(image) - network.eval()(image)).abs().max())
        if difference > TOLERANCE:
            raise ValueError(f"at {sizes} TorchScript and PyTorch differ by {difference:.2g}")
    if (folder / "models" / "model.ts").is_file():
        torch.jit.load(folder / "models" / "model.ts")


def check_training(folder: Path) -> None:
    """train.json has every property and trains an epoch."""
    data = write_images(folder)
    _run(folder, "train", ["train.json"], dataset_dir=str(data), ckpt_dir=str(folder / "trained"), **BRIEF)
    if not (folder / "trained" / "model.pt").is_file():
        raise ValueError("the training left no model.pt")


def check_evaluation(folder: Path) -> None:
    """evaluate.json over train.json has every property and scores what was trained."""
    data, trained = write_images(folder), str(folder / "trained")
    _run(folder, "train", ["train.json", "evaluate.json"], dataset_dir=str(data), ckpt_dir=trained, **BRIEF)
    if not (folder / "output" / "scores.json").is_file():
        raise ValueError("the evaluation left no scores.json")


def check_inference(folder: Path) -> None:
    """inference.json has every property and segments an image with the bundle's weights."""
    images = write_images(folder) / "validation" / "images"
    _run(folder, "infer", ["inference.json"], dataset_dir=str(images), progress=False)
    labels = [tifffile.imread(file) for file in (images.parent / "labels").iterdir()]
    maps = [tifffile.imread(file) for file in (folder / "output" / "predictions").iterdir()]
    if [(m.shape, str(m.dtype)) for m in maps] != [(label.shape, "uint16") for label in labels]:
        raise ValueError(f"expected a 16-bit map of the image's size, got {[(m.shape, str(m.dtype)) for m in maps]}")


CHECKS: tuple[Callable[[Path], None], ...] = (
    check_package,
    check_large_files,
    check_files,
    check_version,
    check_names,
    check_metadata,
    check_shapes,
    check_torchscript,
    check_training,
    check_evaluation,
    check_inference,
)


def write_images(folder: Path) -> Path:
    """A data set of one training and one validation image, as the bundle's configs ask for; where it is."""
    train, data, random = _read(folder, "train"), folder / "made_up", np.random.default_rng(0)
    shape = (40, 48) if train["spatial_dims"] == 2 else (24, 40, 48)
    values = [0, 1, 0, 2] if train["instances"] else train["class_values"] or range(train["out_channels"])
    label = np.repeat(values, shape[-1] // len(values) + 1)[: shape[-1]] * np.ones(shape, int)
    axes, channels = "ZYX"[-len(shape) :], train["in_channels"]
    if channels > 1:
        axes = axes.replace("YX", "CYX")
    for section in ("training", "validation"):
        image = np.stack([100 + label * 50 / max(values) + random.normal(0, 9, shape)] * channels, axis=-3)
        for kind, array, order in (("images", image, axes), ("labels", label, axes.replace("C", ""))):
            file = data / section / kind / "made_up.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            size = [channels if axis == "C" else shape["ZYX".index(axis) - 3] for axis in order]
            tifffile.imwrite(file, array.reshape(size).astype(np.uint16), imagej=True, metadata={"axes": order})
    return data


def _run(folder: Path, kind: str, files: list[str], **settings: Any) -> None:
    """What the Zoo's unit tests do with a workflow."""
    configs = folder / "configs"
    workflow = ConfigWorkflow(
        workflow_type=kind,
        config_file=[str(configs / name) for name in files],
        meta_file=str(configs / "metadata.json"),
        logging_file=str(configs / "logging.conf"),
        bundle_root=str(folder),
        **settings,
    )
    workflow.initialize()
    if missing := workflow.check_properties():
        raise ValueError(f"{files[-1]} lacks properties: {missing}")
    workflow.run()
    workflow.finalize()


def _read(folder: Path, config: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "configs" / f"{config}.json").read_text(encoding="utf-8"))
    return content


def _strings(content: Any) -> list[str]:
    if isinstance(content, str):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else ()
    return [text for part in parts for text in _strings(part)]


def copied(bundle: Path | None, place: Path) -> Path:
    """A copy of a bundle's folder or zip, or what the checkout packs."""
    if bundle is not None and bundle.is_dir():
        return Path(shutil.copytree(bundle, place / bundle.resolve().name))
    archive = bundle or place / "overtile_cell_segmentation.zip"
    if bundle is None:
        subprocess.run([sys.executable, "-W", "ignore", str(ROOT / "scripts" / "pack_bundle.py"), archive], check=True)
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(place)
    (folder,) = (path for path in place.iterdir() if path.is_dir())
    return folder


def passes(check: Callable[[Path], None], folder: Path) -> bool:
    """Whether a check passes; prints what it holds, or why it does not."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            check(folder)
    except Exception as error:  # whatever it is, the other checks still tell something
        traceback.print_exception(error)
        print(f"FAILED  {check.__doc__}\n        {type(error).__name__}: {error}", flush=True)
        return False
    print(f"ok      {check.__doc__}", flush=True)
    return True


def main() -> int:
    """Read the command line, check, and say what holds; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("bundle", nargs="?", type=Path, help="a folder or zip; default: what pack_bundle.py makes now")
    source = "MONAI's schema of metadata.json; default: eval/schema.json if there is one, else it is downloaded"
    parser.add_argument("--schema", type=Path, help=source)
    options = parser.parse_args()
    schema = options.schema or next(ROOT.glob("eval/schema.json"), None)
    with TemporaryDirectory() as place:
        folder = copied(options.bundle, Path(place).resolve())
        if schema is not None:
            (folder / "eval").mkdir(exist_ok=True)
            shutil.copyfile(schema, folder / "eval" / "schema.json")
        sys.path[:0] = [str(folder), str(folder / "bundle")]
        logging.disable()  # MONAI tells every step
        failed = sum(not passes(check, folder) for check in CHECKS)
    print(f"{len(CHECKS) - failed} of {len(CHECKS)} checks passed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
