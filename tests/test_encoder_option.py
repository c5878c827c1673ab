"""The option --encoder_weights of a training."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from monai.bundle import ConfigParser

ROOT = Path(__file__).resolve().parents[1]
SMALL = yaml.safe_load(Path(__file__).with_name("small_networks.yaml").read_text(encoding="utf-8"))
WITH_ENCODER = ["unet_2015", "multiresunet", "transunet", "swin_unet"]
WITHOUT_ENCODER = [
    ("vnet", "VNet"),
    ("residual_unet", "UNet"),
    ("attention_unet", "AttentionUnet"),
    ("unetr", "UNETR"),
    ("dynunet", "DynUNet"),
    ("fcn", "FCN"),
    ("patch_classifier", "PatchClassifier"),
]
FROZEN = {"learning_rate": 0.0, "max_epochs": 1, "steps_per_epoch": 1}


def teacher(name, tmp_path, extra=(), **settings):
    """A file of weights of a network of an overlay with five classes, and its encoder's state."""
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in ("inference.json", f"networks/{name}.yaml")])
    parser.update({**SMALL[name], "out_channels": 5, **settings})
    torch.manual_seed(7)
    network = parser.get_parsed_content("network_def")
    torch.save({**network.state_dict(), **{name: torch.zeros(1) for name in extra}}, tmp_path / "teacher.pt")
    return str(tmp_path / "teacher.pt"), network.encoder.state_dict()


def encoder_of(folder, file="model.pt"):
    state = torch.load(folder / "models" / file, weights_only=True)
    state = state.get("network", state)
    return {name.removeprefix("encoder."): tensor for name, tensor in state.items() if name.startswith("encoder.")}


def learned(state):
    """Weights without the statistics of batch norms, which change without any learning rate."""
    return {name: tensor for name, tensor in state.items() if "running" not in name and "num_batches" not in name}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("name", WITH_ENCODER)
def test_a_training_starts_with_the_encoder_of_the_file(workflow, tmp_path, name):
    path, expected = teacher(name, tmp_path)
    options = {**SMALL[name], **FROZEN}
    workflow("train.json", f"networks/{name}.yaml", **options).run()
    assert not same(learned(encoder_of(tmp_path)), learned(expected))
    workflow("train.json", f"networks/{name}.yaml", **options, encoder_weights=path).run()
    assert same(learned(encoder_of(tmp_path)), learned(expected))


def test_what_a_training_resumes_from_replaces_the_file(workflow, tmp_path):
    path, expected = teacher("unet_2015", tmp_path)
    options = {**SMALL["unet_2015"], "encoder_weights": path, "learning_rate": 0.01}
    workflow("train.json", **options, max_epochs=1).run()
    before = encoder_of(tmp_path, "last.ckpt")
    assert not same(before, expected)
    workflow("train.json", **{**options, "learning_rate": 0.0}, max_epochs=1, resume=True).run()
    assert same(encoder_of(tmp_path, "last.ckpt"), before)


@pytest.mark.parametrize("ignore", [True, "true"])
def test_entries_that_the_encoder_does_not_have_are_left_out_on_demand(workflow, tmp_path, ignore):
    path, expected = teacher("unet_2015", tmp_path, extra=["encoder.classifier"])
    options = {**SMALL["unet_2015"], **FROZEN, "encoder_weights": path}
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what goes wrong in a component of a config
        workflow("train.json", **options).run()
    assert "1 only in the file: classifier" in str(caught.getrepr(style="short"))
    workflow("train.json", **options, ignore_other_weights=ignore).run()
    assert same(encoder_of(tmp_path), expected)


def test_with_the_overlay_for_a_gpu_it_is_the_same(workflow, tmp_path):
    path, expected = teacher("unet_2015", tmp_path)
    workflow("train.json", "gpu.yaml", **SMALL["unet_2015"], **FROZEN, encoder_weights=path).run()
    assert same(encoder_of(tmp_path), expected)


def test_an_evaluation_needs_the_file_no_more(workflow, tmp_path):
    path, _ = teacher("unet_2015", tmp_path)
    workflow("train.json", **SMALL["unet_2015"], **FROZEN, encoder_weights=path).run()
    Path(path).unlink()
    workflow("train.json", "evaluate.json", **SMALL["unet_2015"], encoder_weights=path).run()
    assert (tmp_path / "output" / "scores.json").is_file()


@pytest.mark.parametrize(("name", "kind"), WITHOUT_ENCODER)
def test_a_network_without_an_encoder_says_so(tmp_path, name, kind):
    if name == "unetr":
        pytest.importorskip("einops", reason="MONAI's UNETR needs pip install einops")
    torch.save({}, tmp_path / "weights.pt")
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in ("train.json", f"networks/{name}.yaml")])
    parser["encoder_weights"] = str(tmp_path / "weights.pt")
    with torch.device("meta"), pytest.raises(RuntimeError) as caught:
        parser.get_parsed_content("encoder")
    assert f"a {kind} has no attribute encoder to load weights into" in str(caught.value.__cause__)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "reason"),
    [
        ("none.pt", "FileNotFoundError: there is no file with weights at none.pt"),
        ("text.pt", "ValueError: text.pt cannot be read as weights"),
        ("teacher.pt", "ValueError: the weights in teacher.pt do not fit the encoder of this UNet, nothing was loaded"),
    ],
    ids=["missing", "no weights", "other weights"],
)
def test_on_the_command_line_a_mistake_is_one_line(tmp_path, cells, file, reason):
    teacher("multiresunet", tmp_path)
    (tmp_path / "text.pt").write_text("not weights")
    command = [sys.executable, "-m", "monai.bundle", "run", "training", "--config_file"]
    command += [str(ROOT / "configs" / "train.json"), "--encoder_weights", file, "--dataset_dir", str(cells)]
    command += ["--levels", "1", "--features", "2", "--ckpt_dir", "models", "--output_dir", "out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.strip().splitlines()[-1].startswith(reason)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "models").exists()
