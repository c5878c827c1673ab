"""Exported files, run without the package's code, against PyTorch on the real images that come with it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from overtile.data import sample_folder
from overtile.exports import WithHalo, write_onnx, write_torchscript
from overtile.geometry import read_mirrored
from overtile.inferers import OverlapTileInferer
from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[2]
TOLERANCE = 1e-4
NETWORKS = {
    "2D": {},
    "2D batch norm": {"norm": "batch", "up_relu": True},
    "2D same, instance norm": {"norm": "instance", "padding": "same"},
    "2D same, mirrored": {"padding": "same", "padding_mode": "reflect"},
    "3D batch norm": {"spatial_dims": 3, "norm": "batch", "double_before_pool": True},
    "3D same, group norm": {"spatial_dims": 3, "norm": "group", "padding": "same"},
}
ALONE = """
import json, pathlib, sys
import numpy, torch
assert not any(name == "overtile" for name in sys.modules)
torch.set_num_threads(1)
worst = {}
for file in pathlib.Path(sys.argv[1]).glob("*.ts"):
    network = torch.jit.load(file)
    for case in sorted(file.parent.glob(f"{file.stem}_*.npz")):
        pair = numpy.load(case)
        answer = network(torch.from_numpy(pair["image"])).detach().numpy()
        assert answer.shape == pair["logits"].shape, (case, answer.shape)
        worst[case.stem] = float(abs(answer - pair["logits"]).max())
print(json.dumps(worst))
"""


def network_of(options, levels=2):
    """A small network with statistics and biases that are not those of the beginning."""
    torch.manual_seed(0)
    network = UNet(levels=levels, features=4, **options)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 1:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    return network.eval()


def real_images(dims, *sizes):
    """Parts of the embedded image, normalised, (1, 1, *spatial), mirrored where they are larger than it."""
    image = tifffile.imread(Path(sample_folder(dims)) / "training" / "images" / "top.tif").astype(np.float32)
    image = torch.from_numpy((image - image.mean()) / image.std())[None, None]
    for size in sizes:
        yield read_mirrored(image, [slice(0, size + 4 * axis) for axis in range(dims)]).contiguous()


def session_of(file):
    onnxruntime = pytest.importorskip("onnxruntime", reason='needs pip install "overtile[onnx]"')
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    return lambda tile: torch.from_numpy(session.run(None, {image.name: tile.numpy()})[0])


@torch.no_grad()
def test_torchscript_agrees_with_pytorch_in_a_process_of_its_own_at_all_sizes(tmp_path):
    for name, options in NETWORKS.items():
        for halo in (False, True):
            network = network_of(options)
            network = WithHalo(network, reverse_axes=True).eval() if halo else network
            stem = f"{name}, halo" if halo else name
            write_torchscript(network, tmp_path / f"{stem}.ts")
            for number, image in enumerate(real_images(options.get("spatial_dims", 2), 52, 68)):
                np.savez(tmp_path / f"{stem}_{number}.npz", image=image, logits=network(image))
    (tmp_path / "alone.py").write_text(ALONE)
    command = [sys.executable, "-W", "ignore", "alone.py", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    worst = json.loads(done.stdout)
    assert len(worst) == 2 * 2 * len(NETWORKS)
    assert not {case: difference for case, difference in worst.items() if difference > TOLERANCE}


@pytest.mark.parametrize("halo", [False, True], ids=["plain", "halo"])
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
@torch.no_grad()
def test_onnx_agrees_with_pytorch_at_all_sizes(options, halo, tmp_path):
    pytest.importorskip("onnx", reason='needs pip install "overtile[onnx]"')
    network = network_of(options)
    network = WithHalo(network, reverse_axes=True).eval() if halo else network
    dims = options.get("spatial_dims", 2)
    write_onnx(network, *real_images(dims, 52), tmp_path / "network.onnx")
    run = session_of(tmp_path / "network.onnx")
    for image in real_images(dims, 52, 68):
        torch.testing.assert_close(run(image), network(image), atol=TOLERANCE, rtol=0.0)


@pytest.mark.parametrize("name", ["2D batch norm", "2D same, mirrored", "3D batch norm"])
@torch.no_grad()
def test_onnx_runtime_tiled_by_the_inferer_is_pytorchs_result(name, tmp_path):
    pytest.importorskip("onnx", reason='needs pip install "overtile[onnx]"')
    network = network_of(NETWORKS[name])
    dims = network.spatial_dims
    (image,) = real_images(dims, 61 if dims == 3 else 150)
    write_onnx(network, *real_images(dims, 52), tmp_path / "network.onnx")
    tiles = OverlapTileInferer(output_size=32, geometry=network.geometry)
    result = tiles(image, session_of(tmp_path / "network.onnx"))
    torch.testing.assert_close(result, OverlapTileInferer()(image, network), atol=TOLERANCE, rtol=0.0)


def test_a_network_in_training_mode_is_refused(tmp_path):
    network = network_of({}).train()
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        write_torchscript(network, tmp_path / "network.ts")
    with pytest.raises(ValueError, match=r"call eval\(\)"):
        write_onnx(network, torch.rand(1, 1, 52, 52), tmp_path / "network.onnx")


@pytest.fixture
def bundle(tmp_path):
    """A copy of the bundle's configs and code, and a function that runs MONAI's commands in it."""
    root = tmp_path / "bundle_copy"
    for folder in ("configs", "scripts", "bundle"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "models").mkdir()

    def call(command, *options):
        quiet = {"PYTHONWARNINGS": "ignore", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        files = ["--ckpt_file", "models/model.pt", "--meta_file", "configs/metadata.json"]
        configs = ["--config_file", "['configs/inference.json','models/model.yaml']"]
        done = subprocess.run(
            [sys.executable, "-m", "monai.bundle", command, "network_def", *files, *configs, *options],
            cwd=root,
            env={**os.environ, **quiet},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]

    return root, call


def save(root, options):
    """Weights in the bundle, with the overlay that says what network they are of; that network."""
    network = network_of(options, levels=3)
    torch.save(network.state_dict(), root / "models" / "model.pt")
    said = {**options, "levels": 3, "features": 4}
    (root / "models" / "model.yaml").write_text("".join(f"{name}: {value}\n" for name, value in said.items()))
    return network


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"norm": "batch"}, {"spatial_dims": 3}], ids=["2D", "3D"])
@torch.no_grad()
def test_monais_ckpt_export_writes_torchscript_for_all_sizes(options, bundle):
    root, call = bundle
    network = save(root, options)
    call("ckpt_export", "--filepath", "models/model.ts")
    exported = torch.jit.load(root / "models" / "model.ts")
    for image in real_images(network.spatial_dims, *([92, 100] if network.spatial_dims == 3 else [156, 188])):
        image = image[(..., *[slice(0, image.shape[2])] * network.spatial_dims)]
        torch.testing.assert_close(exported(image), network(image), atol=TOLERANCE, rtol=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("exporter", ["torch.export", "tracing"])
@pytest.mark.parametrize("options", [{"norm": "batch"}, {"spatial_dims": 3}], ids=["2D", "3D"])
@torch.no_grad()
def test_monais_onnx_export_writes_onnx_for_all_sizes(options, exporter, bundle):
    for package in ("onnx", *(["onnxscript"] if exporter == "torch.export" else [])):
        pytest.importorskip(package, reason='needs pip install "overtile[onnx]"')
    root, call = bundle
    network = save(root, options)
    dims = network.spatial_dims
    free = "{'image':{0:'batch',2:'x',3:'y'" + (",4:'z'}}" if dims == 3 else "}}")
    arguments = f"'input_names':['image'],'output_names':['pred'],'dynamic_axes':{free}"
    if exporter == "tracing":
        arguments += ",'dynamo':False"
    shape = ["--input_shape", "[1,1,92,92,92]"] if dims == 3 else []
    use_trace = str(exporter == "tracing")
    call(
        "onnx_export", "--filepath", "models/model.onnx", "--use_trace", use_trace, *shape,
        "--converter_kwargs", "{" + arguments + "}",
    )  # fmt: skip
    run = session_of(root / "models" / "model.onnx")
    for size in [92, 100] if dims == 3 else [156, 188]:
        (image,) = real_images(dims, size)
        image = image[(..., *[slice(0, size)] * dims)].contiguous()
        torch.testing.assert_close(run(image), network(image), atol=TOLERANCE, rtol=0.0)
