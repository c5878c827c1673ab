"""Starts MONAI Label with this bundle on a folder of images: ``python scripts/label.py IMAGES``.

Run it with the Python of an environment that has MONAI Label (docs/monai_label.md says how to make one). Annotators
connect with a viewer, correct what the network proposes, and train it on their labels.
"""

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "bundle"))  # an installed copy wins

MADE_WITH = "made_with.json"
NAME = "overtile_segmentation"  # MONAI Label reads the kind of task out of the folder's name
SHIPPED = ROOT / "models" / "model.pt"
SHIPPED_RECIPE = [ROOT / "configs" / "experiments" / "bbbc039_cpu.yaml"]  # how training goes on with these weights
PICTURES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")
VOLUMES = (".nii", ".nii.gz", ".nrrd")  # the longer ending last: MONAI Label takes the last that fits
FOR_INSTANCES = ("threshold", "min_size", "split_probability", "split_distance")  # what a viewer may set per image
FOR_CLASSES = ("min_island",)


def main() -> int:
    """Read the command line, prepare what MONAI Label needs, and serve until interrupted; the exit status."""
    options = command_line()
    images = options.images.absolute()
    app = (options.app or images / "monailabel").absolute()
    try:
        check_images(images)
        source = sample_app()
        check_port(options.host, options.port)
        asked = options.config_file or options.weights
        is_first = not (app / "model" / NAME).is_dir()
        wanted = recipe(images, options.config_file, options.weights) if asked or is_first else None
        says = prepare(app, source, wanted)
    except (OSError, ValueError, RuntimeError, ImportError) as error:
        print(f"label.py: {error}", file=sys.stderr)
        return 1
    print(explanation(images, app, options.host, options.port), *says, sep="\n", flush=True)
    return serve(images, app, options.host, options.port)


def command_line() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, help="folder of 2D PNG, TIFF, JPEG or BMP, or of 3D NIfTI or NRRD")
    overlay = "config overlay, once for each: --config_file configs/3d.yaml for volumes"
    parser.add_argument("--config_file", action="append", default=[], type=Path, metavar="OVERLAY", help=overlay)
    weights = "trained weights; the model.yaml beside them is read too (default: the bundle's own, for nuclei; none "
    weights += "with --config_file, so that the network learns from the labels alone)"
    parser.add_argument("--weights", type=Path, metavar="MODEL.pt", help=weights)
    parser.add_argument("--port", type=int, default=8000, help="default: 8000")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other computers in, without any password")
    app = "where server, network and what it learns are kept between starts (default: IMAGES/monailabel)"
    parser.add_argument("--app", type=Path, metavar="DIR", help=app)
    return parser.parse_args()


def check_images(folder: Path) -> None:
    """Raises where there is nothing to label."""
    if not folder.is_dir():
        raise FileNotFoundError(f"the folder of images {folder} does not exist")
    if not any(file.name.lower().endswith(PICTURES + VOLUMES) for file in folder.iterdir()):
        endings = " ".join(PICTURES + VOLUMES)
        raise FileNotFoundError(f"{folder} holds no image; MONAI Label takes {endings}, not in subfolders")


def sample_app() -> Path:
    """The app for bundles that was installed with MONAI Label."""
    spec = find_spec("monailabel")
    if spec is None or spec.origin is None:
        raise ImportError(
            f"MONAI Label is not installed for {sys.executable}; in an environment of its own:\n"
            "  pip install -r constraints-label.txt\n"
            "  pip install --no-deps monailabel==0.8.5 pydicom-seg==0.4.1"
        )
    places = (Path(sys.prefix) / "monailabel" / "sample-apps", Path(spec.origin).parents[1] / "sample-apps")
    for place in places:
        if (place / "monaibundle" / "main.py").is_file():
            return place / "monaibundle"
    raise FileNotFoundError(f"MONAI Label's app monaibundle is not in {' or '.join(map(str, places))}: reinstall it")


def check_port(host: str, port: int) -> None:
    """Raises where the server could not listen."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        if os.name != "nt":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will
        try:
            probe.bind((host, port))
        except OSError as error:
            raise OSError(f"{host}:{port} cannot be used ({error.strerror}); choose another one with --port") from error


def recipe(images: Path, config_files: Sequence[Path], weights: Path | None) -> dict[str, list[str]]:
    """Overlays and weights of the bundle to make, as absolute paths."""
    if weights is None and not config_files:
        if not any(file.name.lower().endswith(PICTURES) for file in images.iterdir()):
            raise ValueError(f"{images} holds volumes: add --config_file configs/3d.yaml, or weights of a 3D network")
        config_files, weights = SHIPPED_RECIPE, SHIPPED
    files = [*config_files, *([] if weights is None else [weights])]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise FileNotFoundError(f"{', '.join(missing)} does not exist")
    overlays = [*config_files]
    if weights is not None and weights.with_suffix(".yaml").is_file():
        overlays.append(weights.with_suffix(".yaml"))
    return {
        "overlays": [str(file.absolute()) for file in overlays],
        "weights": [] if weights is None else [str(weights.absolute())],
    }


def prepare(app: Path, source: Path, wanted: dict[str, list[str]] | None) -> list[str]:
    """Fills the app's folder, at the first start only, and says what the user should know about its network.

    Args:
        app: the folder.
        source: MONAI Label's app to copy.
        wanted: what the bundle is made of; None takes the one that is there.

    Raises:
        ValueError: the folder holds a bundle that was made otherwise, or the weights do not fit.
    """
    bundle = app / "model" / NAME
    if not (app / "main.py").is_file():
        shutil.copytree(source, app, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    if wanted is not None and not bundle.is_dir():
        bundle.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=app, prefix=".making-") as folder:
            make_bundle(Path(folder) / NAME, wanted).rename(bundle)
    made = json.loads((bundle / MADE_WITH).read_text(encoding="utf-8"))
    if wanted is not None and made != wanted:
        raise ValueError(
            f"{bundle} was made with {made}, not with {wanted}. Start without --config_file and --weights to go on "
            "with it, or name another folder with --app to start anew"
        )
    if not made["weights"]:
        return ["The network began without trained weights: label some images and train it before you ask for masks."]
    return []


def make_bundle(folder: Path, wanted: dict[str, list[str]]) -> Path:
    """A complete bundle with the overlays' options in its configs, and with weights, trained or not."""
    import torch
    from monai.bundle import ConfigParser

    from pack_bundle import write_bundle  # beside this file

    weights = Path(wanted["weights"][0]) if wanted["weights"] else None
    write_bundle(folder, overlays=[Path(file) for file in wanted["overlays"]], weights=weights)
    edit(folder / "configs" / "inference.json", offer_settings)
    if weights is None:  # MONAI Label offers no model that has none
        config = json.loads((folder / "configs" / "inference.json").read_text(encoding="utf-8"))
        torch.manual_seed(0)
        (folder / "models").mkdir(exist_ok=True)
        torch.save(ConfigParser(config).get_parsed_content("network_def").state_dict(), folder / "models" / "model.pt")
    (folder / MADE_WITH).write_text(json.dumps(wanted, indent=4), encoding="utf-8")
    return folder


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes a JSON file in place."""
    content = json.loads(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(json.dumps(content, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")


def offer_settings(inference: dict[str, Any]) -> None:
    """Lets a viewer show and set what follows the network; a setting that is None has no place in a form."""
    names = (*(FOR_INSTANCES if inference["instances"] else FOR_CLASSES), "fill_holes", "averaging")
    offered = {name: inference[name] for name in names if inference[name] is not None}
    inference["displayable_configs"] = offered
    inference.update({name: f"@displayable_configs::{name}" for name in offered})


def explanation(images: Path, app: Path, host: str, port: int) -> str:
    """Where everything is, and what to do next."""
    address = f"http://{'127.0.0.1' if host in ('0.0.0.0', '::') else host}:{port}"
    names = [file.name.lower() for file in images.iterdir()]
    if any(name.endswith(VOLUMES) for name in names):
        viewer = "3D Slicer with its extension MONAILabel"
    else:
        viewer = "CellProfiler, or your own program over REST"
    return (
        f"images         {images}\n"
        f"labels         {images / 'labels' / 'final'}\n"
        f"network        {app / 'model' / NAME / 'models' / 'model.pt'} (a training replaces it)\n"
        f"address        {address} (in about ten seconds; Ctrl-C ends it)\n"
        f"viewer         {viewer}: docs/monai_label.md says how"
    )


def serve(images: Path, app: Path, host: str, port: int) -> int:
    """Run the server until it is interrupted; its exit status."""
    folders = sorted(folder.name for folder in (app / "model").iterdir() if (folder / "configs").is_dir())
    models = ",".join([NAME, *(name for name in folders if name != NAME)])
    place = ["--app", str(app), "--studies", str(images), "--host", host, "--port", str(port)]
    # another source than local would ask the Model Zoo for a list first, and stop without network
    conf = ["--conf", "models", models, "--conf", "zoo_source", "local", "--conf", "sam2", "false"]
    endings = json.dumps([f"*{ending}" for ending in PICTURES + VOLUMES])
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])  # for its own processes
    environment = {**os.environ, "MONAI_LABEL_DATASTORE_FILE_EXT": endings, "PATH": search}
    command = [sys.executable, "-m", "monailabel.main", "start_server", *place, *conf]
    server = subprocess.Popen(command, env=environment)
    signal.signal(signal.SIGTERM, lambda *_: server.terminate())
    while True:
        try:
            return server.wait()
        except KeyboardInterrupt:  # the server has heard it too, and ends
            continue


if __name__ == "__main__":
    sys.exit(main())
