"""The commands of ``monai.bundle`` on the bundle as cloned (docs/bundle_commands.md), and the Model Zoo's checks."""

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from importlib.util import find_spec
from pathlib import Path

import monai.bundle
import numpy as np
import pytest
import tifffile
import torch
from monai.bundle import ConfigParser
from monai.data import load_net_with_metadata

from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[1]
SCHEMA = ROOT.parent / "shared" / "data" / "monai_schema" / "meta_schema_20240725.json"
SHIPPED = ROOT / "models" / "model.yaml"
TINY = {"levels": 1, "features": 2, "norm": "batch", "dropout": 0.0}
OPTIONS = [text for name, value in TINY.items() for text in (f"--{name}", str(value))]
CONFIG = ["--config_file", "configs/inference.json"]
META = ["--meta_file", "configs/metadata.json"]

needs_schema = pytest.mark.skipif(not SCHEMA.is_file(), reason=f"needs MONAI's schema of metadata.json at {SCHEMA}")


def python(*command, succeeds=True):
    """A command line in the bundle's root, with a real process."""
    quiet = {"PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **quiet}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == succeeds, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def bundle_command(name, *arguments):
    return python("-m", "monai.bundle", name, *arguments)


@pytest.fixture
def weights(tmp_path):
    """Weights of the network of ``TINY``, and the network."""
    torch.manual_seed(0)
    network = UNet(**TINY).eval()
    torch.save(network.state_dict(), tmp_path / "model.pt")
    return tmp_path / "model.pt", network


@pytest.mark.slow
@needs_schema
def test_verify_metadata_needs_no_network_where_the_schema_is():
    done = bundle_command("verify_metadata", *META, "--filepath", SCHEMA)
    assert "metadata is verified with no error" in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not SHIPPED.is_file(), reason="needs the weights that ship, in models/")
def test_the_shipped_weights_are_those_of_the_network_that_model_yaml_describes(tmp_path):
    files = ["--config_file", "['configs/inference.json','models/model.yaml']"]
    done = bundle_command("verify_net_in_out", "network_def", *META, *files)
    assert "data shape of network is verified with no error" in done.stdout
    exported = tmp_path / "model.ts"
    bundle_command(
        "ckpt_export", "network_def", "--filepath", exported, "--ckpt_file", "models/model.pt", *META, *files
    )
    image = torch.zeros(1, 1, 188, 188)
    assert torch.jit.load(exported)(image).shape == (1, 2, 100, 100)


@pytest.mark.slow
def test_ckpt_export_writes_torchscript_that_answers_as_pytorch_at_any_legal_size(tmp_path, weights):
    file, network = weights
    exported = tmp_path / "model.ts"
    bundle_command("ckpt_export", "network_def", "--filepath", exported, "--ckpt_file", file, *META, *CONFIG, *OPTIONS)
    scripted = torch.jit.load(exported).eval()
    for size in ((1, 1, 20, 20), (2, 1, 64, 36)):
        image = torch.rand(size)
        with torch.no_grad():
            torch.testing.assert_close(scripted(image), network(image), atol=1e-5, rtol=0)
    _, metadata, files = load_net_with_metadata(str(exported), more_extra_files=("inference.json",))
    assert metadata["network_data_format"]["outputs"]["pred"]["num_channels"] == 2
    assert json.loads(files["inference.json"])["inferring"] == "@run"


@pytest.mark.slow
@pytest.mark.skipif(
    not all(map(find_spec, ("onnx", "onnxscript"))), reason="needs the packages onnx and onnxscript: pip install them"
)
def test_onnx_export_writes_a_valid_model_for_images_of_any_legal_size(tmp_path, weights):
    import onnx

    exported, (file, _) = tmp_path / "model.onnx", weights
    axes = {"image": {0: "batch", 2: "y", 3: "x"}, "logits": {0: "batch", 2: "v", 3: "u"}}
    names = {"input_names": ["image"], "output_names": ["logits"], "dynamic_axes": axes}
    converter = ["--use_trace", "True", "--converter_kwargs", str(names)]
    places = ["--filepath", exported, "--ckpt_file", file, *META, *CONFIG]
    bundle_command("onnx_export", "network_def", *places, *converter, *OPTIONS)
    model = onnx.load(exported)
    onnx.checker.check_model(model, full_check=True)
    (image,) = model.graph.input
    assert [axis.dim_param or axis.dim_value for axis in image.type.tensor_type.shape.dim] == ["batch", 1, "y", "x"]


@pytest.mark.skipif(
    not (find_spec("torch_tensorrt") and torch.cuda.is_available()),
    reason="needs an NVIDIA GPU and the package torch_tensorrt: pip install torch_tensorrt",
)
def test_trt_export_writes_an_engine(tmp_path, weights):
    exported, (file, _) = tmp_path / "model_trt.ts", weights
    monai.bundle.trt_export(
        "network_def",
        filepath=str(exported),
        ckpt_file=str(file),
        meta_file=str(ROOT / "configs" / "metadata.json"),
        config_file=str(ROOT / "configs" / "inference.json"),
        precision="fp32",
        **TINY,
    )
    assert torch.jit.load(exported)(torch.zeros(1, 1, 188, 188, device="cuda")).shape == (1, 2, 172, 172)


def test_inference_with_the_overlay_for_tensorrt_goes_on_without_tensorrt(workflow, tmp_path, cells, weights):
    maps = []
    for configs in (["inference.json"], ["inference.json", "inference_trt.json"]):
        output = tmp_path / f"with_{len(configs)}_files"
        settings = {**TINY, "ckpt_dir": str(tmp_path), "output_dir": str(output), "output_size": 20}
        images = str(cells / "validation" / "images")
        run = workflow(*configs, workflow_type="infer", dataset_dir=images, **settings)
        assert run.check_properties() == []
        run.run()
        maps += [tifffile.imread(file) for file in output.iterdir()]
    inferer = run.parser.get_parsed_content("inferer")
    assert inferer.output_size == 20  # in tiles: strips would pass TensorRT by
    np.testing.assert_array_equal(*maps)


@pytest.mark.slow
def test_run_workflow_runs_the_configs_by_the_name_of_their_class(tmp_path, cells, weights):
    images = ["--dataset_dir", cells / "validation" / "images"]
    places = ["--ckpt_dir", weights[0].parent, "--output_dir", tmp_path / "maps", "--progress", "False"]
    kind = ["--workflow_name", "ConfigWorkflow", "--workflow_type", "infer"]
    bundle_command("run_workflow", *kind, *CONFIG, *META, *images, *places, *OPTIONS)
    assert [file.name for file in (tmp_path / "maps").iterdir()] == ["held_out_seg.tif"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="needs the package mlflow: pip install mlflow")
def test_tracking_with_mlflow_keeps_losses_scores_and_the_config(tmp_path, cells):
    steps = ["--output_size", "20", "--steps_per_epoch", "2", "--max_epochs", "2", "--val_interval", "1"]
    places = ["--dataset_dir", cells, "--ckpt_dir", tmp_path / "models", "--output_dir", tmp_path / "output"]
    options = [*OPTIONS, *steps, *places, "--progress", "false", "--tracking", "mlflow"]
    bundle_command("run", "training", "--config_file", "configs/train.json", *options)
    assert list((tmp_path / "output").glob("config_*.json"))
    with sqlite3.connect(tmp_path / "output" / "mlruns.db") as store:
        kept = {name for (name,) in store.execute("select distinct key from metrics")}
    assert {"val_f1"} <= kept
    assert [name for name in kept if "loss" in name.lower()]


@pytest.mark.slow
@needs_schema
def test_the_model_zoos_checks_pass_on_a_packed_bundle_and_find_what_is_wrong(tmp_path, weights):
    overlay = tmp_path / "model.yaml"
    overlay.write_text("".join(f"{name}: {value}\n" for name, value in TINY.items()))
    packed = tmp_path / "cell_segmentation.zip"
    python("scripts/pack_bundle.py", packed, "--weights", weights[0], "--config_file", overlay)
    done = python("scripts/verify_bundle.py", packed, "--schema", SCHEMA)
    assert done.stdout.count("ok  ") == 11
    assert "11 of 11 checks passed" in done.stdout

    with zipfile.ZipFile(packed) as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "cell_segmentation"
    (folder / "LICENSE").unlink()
    metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    metadata["version"] = "9.9"
    metadata["network_data_format"]["outputs"]["pred"]["num_channels"] = 3
    (folder / "configs" / "metadata.json").write_text(json.dumps(metadata))
    inference = ConfigParser.load_config_file(folder / "configs" / "inference.json")
    inference["features"] = 4
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    done = python("scripts/verify_bundle.py", folder, "--schema", SCHEMA, succeeds=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAILED")]
    assert [line.split()[1:4] for line in failed] == [
        ["What", "a", "bundle"],
        ["The", "version", "is"],
        ["The", "network", "answers"],
        ["The", "weights", "fit"],
        ["inference.json", "has", "every"],
    ]
    assert "missing: LICENSE" in done.stdout
    assert not (folder / "trained").exists()  # the checks work in a copy
