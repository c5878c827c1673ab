"""What pack_bundle.py writes: whole config files, metadata that fits them, and a zip that MONAI and the Zoo take."""

import importlib.util
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import tifffile
import torch
import yaml
from monai.apps.utils import HashCheckError
from monai.bundle import ConfigParser

from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
SPEC = importlib.util.spec_from_file_location("pack_bundle", ROOT / "scripts" / "pack_bundle.py")
pack_bundle = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(pack_bundle)
write_bundle = pack_bundle.write_bundle

TINY = {"levels": 1, "features": 2, "norm": "batch", "dropout": 0.0, "min_size": 3}  # as a training's model.yaml
TINY_SWIN = {"features": 4, "network_def#heads": [1, 1, 1, 1]}
SAME_NORMED = {"padding": "same", "norm": "instance", "levels": 2}
VARIANTS = [
    pytest.param([], {"features": 2}, id="2D of 2015"),
    pytest.param([], {"levels": 3, "features": 2, "norm": "batch"}, id="three levels"),
    pytest.param(["3d.yaml"], {"features": 2}, id="3D of 2016"),
    pytest.param(["3d.yaml"], {"features": 2, **SAME_NORMED}, id="3D, same padding"),
    pytest.param([], {"features": 2, **SAME_NORMED}, id="same padding"),
    pytest.param([], {"features": 2, "instances": False, "out_channels": 4}, id="classes"),
    pytest.param([], {"features": 2, "in_channels": 3}, id="colours"),
    pytest.param(["networks/swin_unet.yaml"], {**TINY_SWIN, "output_size": 224, "window": 7}, id="one size"),
    pytest.param(["networks/swin_unet.yaml"], {**TINY_SWIN, "output_size": 64}, id="another size"),
]


def overlay(folder, content, name="model.yaml"):
    """An overlay as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def checkpoint(folder, dtype=torch.float32):
    """Weights of the network of ``TINY``."""
    torch.manual_seed(0)
    weights = UNet(levels=1, features=2, norm="batch", dropout=0.0).state_dict()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({k: v.to(dtype) if v.is_floating_point() else v for k, v in weights.items()}, folder / "model.pt")
    return folder / "model.pt"


def read(folder, name):
    return json.loads((folder / "configs" / f"{name}.json").read_text(encoding="utf-8"))


def call(*command, **settings):
    """A command line; its output."""
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", **settings}
    command = [sys.executable, *map(str, command)]
    return subprocess.run(command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)


def test_a_bundle_holds_what_others_look_for_and_nothing_of_the_workplace(tmp_path):
    folder = write_bundle(tmp_path / "new" / "cells", [overlay(tmp_path, TINY)], checkpoint(tmp_path))
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files >= {
        "LICENSE",
        "configs/train.json",
        "configs/inference.json",
        "configs/evaluate.json",
        "configs/metadata.json",
        "configs/logging.conf",
        "configs/multi_gpu_train.yaml",
        "docs/README.md",
        "docs/images/quickstart.png",
        "models/model.pt",
        "scripts/__init__.py",
        "bundle/overtile/__init__.py",
        "bundle/overtile/reports/report.html",
        "bundle/overtile/data/sample/nuclei2d/training/images/top.tif",
    }
    assert not [name for name in files if "__pycache__" in name or Path(name).suffix in (".pyc", ".log")]
    assert {name.split("/")[0] for name in files} == {"LICENSE", "configs", "docs", "models", "scripts", "bundle"}
    assert "models/model.yaml" not in files
    assert not [name for name in files if name.endswith(".md") and "model.yaml'" in (folder / name).read_text("utf-8")]


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["quick.yaml"], id="quick"),
        pytest.param(["experiments/bbbc039.yaml", "experiments/bbbc039_cpu.yaml"], id="BBBC039"),
        pytest.param(["3d.yaml", "experiments/hippocampus.yaml", "experiments/hippocampus_cpu.yaml"], id="3D"),
        pytest.param(["experiments/dic_hela.yaml", "experiments/dic_hela_cpu.yaml"], id="half the resolution"),
    ],
)
def test_what_is_baked_in_is_what_monai_makes_of_the_list_of_files(tmp_path, names):
    files = [CONFIGS / name for name in names]
    folder = write_bundle(tmp_path / "cells", files)
    for name in ("train", "inference"):
        merged, made = ConfigParser(), ConfigParser(read(folder, name))
        merged.read_config([CONFIGS / f"{name}.json", *files])
        written = set(made.get())
        assert written >= set(json.loads((CONFIGS / f"{name}.json").read_text("utf-8")))
        for parser in (merged, made):
            parser.parse()
        assert {key: merged.get(key) for key in written} == {key: made.get(key) for key in written}
    assert "optimizer" in read(folder, "train")
    assert "optimizer" not in read(folder, "inference")


def test_nested_and_added_values_are_baked_in_as_monai_does_it(tmp_path):
    nested = {"preprocessing#transforms#2#nonzero": True, "inferer::output_size": 64}
    file = overlay(tmp_path, {**nested, "+handlers": [{"_target_": "StatsHandler"}]})
    made = pack_bundle.baked(CONFIGS / "inference.json", [file], only_known=True)
    assert made == ConfigParser.load_config_files([CONFIGS / "inference.json", file])
    assert made["preprocessing"]["transforms"][2]["nonzero"] is True
    assert made["inferer"]["output_size"] == 64
    assert len(made["handlers"]) == 2


def test_inference_takes_of_an_overlay_what_its_own_keys_refer_to(tmp_path):
    folder = write_bundle(tmp_path / "cells", [CONFIGS / "gpu.yaml"])
    inference = read(folder, "inference")
    assert {"on_gpu", "layout"} <= inference.keys()  # the network's memory layout
    assert "train" not in inference
    assert read(folder, "train")["train"]["deterministic_transforms"][-1]["_target_"] == "ToDeviced"


def test_an_overlay_that_only_a_training_understands_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"inference.json with .*multi_gpu_train.yaml refers to train, which it does"):
        write_bundle(tmp_path / "cells", [CONFIGS / "multi_gpu_train.yaml"])
    assert not (tmp_path / "cells").exists()


def test_weights_of_another_network_are_refused(tmp_path):
    with pytest.raises(ValueError, match="holds the weights of another network"):
        write_bundle(tmp_path / "cells", [overlay(tmp_path, {**TINY, "features": 4})], checkpoint(tmp_path))
    assert not (tmp_path / "cells").exists()


def test_a_folder_that_exists_and_an_overlay_that_does_not_are_refused(tmp_path):
    with pytest.raises(FileExistsError, match="exists already"):
        write_bundle(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no overlay .*nowhere\.yaml"):
        write_bundle(tmp_path / "cells", [tmp_path / "nowhere.yaml"])


@pytest.mark.parametrize(("names", "options"), VARIANTS)
def test_metadata_describes_the_network_that_results(tmp_path, names, options):
    folder = write_bundle(tmp_path / "cells", [*(CONFIGS / name for name in names), overlay(tmp_path, options)])
    inference, formats = read(folder, "inference"), read(folder, "metadata")["network_data_format"]
    image, pred = formats["inputs"]["image"], formats["outputs"]["pred"]
    meta, config = (str(folder / "configs" / name) for name in ("metadata.json", "inference.json"))
    for n in (1, 2):
        monai.bundle.verify_net_in_out("network_def", meta_file=meta, config_file=config, n=n)
        sizes = [eval(str(size), {"n": n}) for size in image["spatial_shape"]]
        network = ConfigParser(inference).get_parsed_content("network_def").eval()
        answer = network(torch.zeros(1, image["num_channels"], *sizes))
        assert [*answer.shape[2:]] == [eval(str(size), {"n": n}) for size in pred["spatial_shape"]]
        assert len(sizes) == inference["spatial_dims"]
        assert answer.shape[1] == pred["num_channels"] == len(pred["channel_def"])
    assert inference["network_def"] == read(folder, "train")["network_def"]


def test_the_declared_shape_of_a_network_of_one_size_is_a_plain_number(tmp_path):
    settings = overlay(tmp_path, {**TINY_SWIN, "output_size": 64})
    folder = write_bundle(tmp_path / "cells", [CONFIGS / "networks" / "swin_unet.yaml", settings])
    formats = read(folder, "metadata")["network_data_format"]
    assert formats["inputs"]["image"]["spatial_shape"] == formats["outputs"]["pred"]["spatial_shape"] == [64, 64]


def test_classes_have_the_names_that_an_overlay_gives_them(tmp_path):
    names = ["background", "nucleus", "cytoplasm"]
    options = {**TINY, "instances": False, "out_channels": 3}
    folder = write_bundle(tmp_path / "named", [overlay(tmp_path, {**options, "class_names": names})])
    metadata = read(folder, "metadata")
    channels = metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
    assert channels == {"0": "background", "1": "nucleus", "2": "cytoplasm"}
    assert metadata["label_classes"] == "0 background, 1 nucleus, 2 cytoplasm"
    unnamed = read(write_bundle(tmp_path / "unnamed", [overlay(tmp_path, options)]), "metadata")
    assert [*unnamed["network_data_format"]["outputs"]["pred"]["channel_def"].values()][1:] == ["class 1", "class 2"]
    with pytest.raises(ValueError, match="class_names must name the 3 classes"):
        write_bundle(tmp_path / "wrong", [overlay(tmp_path, {**options, "class_names": names[:2]})])


def test_a_zip_depends_on_its_content_alone(tmp_path):
    written = []
    for place in ("one", "two"):
        folder = write_bundle(tmp_path / place / "cells", [overlay(tmp_path, TINY)])
        os.utime(folder / "LICENSE", (0, len(written)))
        pack_bundle.write_zip(folder, tmp_path / f"{place}.zip")
        written.append((tmp_path / f"{place}.zip").read_bytes())
    assert written[0] == written[1]


@pytest.mark.slow
def test_a_packed_bundle_is_downloaded_loaded_and_infers_without_an_installed_package(tmp_path, cells):
    weights, packed = checkpoint(tmp_path, torch.float16), tmp_path / "cell_segmentation_v0.9.zip"
    overlay(tmp_path, TINY)  # model.yaml beside model.pt is found
    done = call(ROOT / "scripts" / "pack_bundle.py", packed, "--weights", weights)
    assert done.returncode == 0, done.stderr
    store = tmp_path / "store"
    monai.bundle.download("cell_segmentation", bundle_dir=str(store), url=packed.as_uri(), progress=False)
    folder = store / "cell_segmentation"
    loaded = monai.bundle.load("cell_segmentation", bundle_dir=str(store), source="github")
    for name, tensor in torch.load(weights, weights_only=True).items():
        assert torch.equal(loaded.state_dict()[name], tensor.to(loaded.state_dict()[name].dtype)), name

    libraries = {"PYTHONPATH": sysconfig.get_paths()["purelib"]}  # with -S without its .pth: nothing editable
    if call("-S", "-c", "import overtile", **libraries).returncode == 0:
        pytest.skip("overtile lies in site-packages: install it with pip install -e, so that it can be left out")
    images = ("--dataset_dir", cells / "validation" / "images", "--progress", "false")
    config = ("--config_file", folder / "configs" / "inference.json")
    done = call("-S", "-m", "monai.bundle", "run", "inferring", *config, *images, **libraries)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (found,) = (folder / "output" / "predictions").iterdir()
    assert tifffile.imread(found).shape == (40, 48)
    assert tifffile.imread(found).dtype == np.uint16


def test_large_weights_stay_out_and_monai_fetches_them_from_the_address(tmp_path, monkeypatch):
    monkeypatch.setattr(pack_bundle, "LARGE", 1000)
    weights = checkpoint(tmp_path)
    folder = write_bundle(tmp_path / "cells", [overlay(tmp_path, TINY)], weights)
    pack_bundle.move_out_weights(folder, weights.as_uri())
    assert not (folder / "models" / "model.pt").exists()
    monai.bundle.download_large_files(bundle_path=str(folder))
    assert (folder / "models" / "model.pt").read_bytes() == weights.read_bytes()
    (folder / "models" / "model.pt").unlink()
    weights.write_bytes(b"others")
    with pytest.raises(HashCheckError, match="sha256 hash check"):
        monai.bundle.download_large_files(bundle_path=str(folder))


def test_a_mistake_on_the_command_line_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pack_bundle.py", str(tmp_path / "cells.tar"), "--config_file"])
    assert pack_bundle.main() == 1
    assert capsys.readouterr().err == f"not packed: the destination must end in .zip, got {tmp_path / 'cells.tar'}\n"
