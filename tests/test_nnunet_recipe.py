"""nnU-Net's recipe, configs/nnunet.yaml: its numbers, and that all that follows a training bears several heads."""

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from monai.bundle import ConfigParser

from overtile.data import sample_folder
from overtile.exports import write_torchscript
from overtile.losses import DeepSupervisionLoss, DiceCrossEntropyLoss

ROOT = Path(__file__).resolve().parents[1]
NETWORK, RECIPE = "networks/dynunet.yaml", "nnunet.yaml"
SETTINGS = yaml.safe_load(Path(__file__).with_name("small_networks.yaml").read_text(encoding="utf-8"))
SMALL = {**SETTINGS["dynunet"], "network_def#deep_supr_num": 1}
VOLUME = {"dataset_dir": sample_folder(3), "output_size": 16}


def parsed(*layers, below="train.json", **settings):
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in (below, *layers, NETWORK, RECIPE)])
    parser.update(settings)
    return parser


def all_of(folder):
    return torch.load(folder / "models" / "last.ckpt", weights_only=True)


def test_the_overlay_has_the_numbers_of_nnu_net():
    parser = parsed(device="meta")
    with torch.device("meta"):
        network, optimizer, policy = (
            parser.get_parsed_content(key) for key in ("network_def", "optimizer", "lr_scheduler")
        )
    settings = {"lr": 0.01, "momentum": 0.99, "nesterov": True, "weight_decay": 3e-5}
    assert {key: optimizer.defaults[key] for key in settings} == settings
    assert type(optimizer) is torch.optim.SGD
    assert [policy.lr_lambdas[0](epoch) for epoch in (0, 250, 999)] == [1.0, 0.75**0.9, pytest.approx(0.001**0.9)]
    assert parser["max_epochs"] * parser["steps_per_epoch"] == 250_000
    assert len(network.deep_supervision_heads) == 3


@pytest.mark.parametrize(("layers", "batch"), [((), True), (("3d.yaml",), False)], ids=["2D", "3D"])
def test_dice_is_that_of_a_batch_in_2d_and_of_each_volume_in_3d(layers, batch):
    loss = parsed(*layers).get_parsed_content("loss")
    assert isinstance(loss, DeepSupervisionLoss)
    assert isinstance(loss.loss, DiceCrossEntropyLoss)
    assert loss.loss.dice.batch is batch


@pytest.mark.parametrize(
    ("layers", "settings"), [((), {}), (("gpu.yaml",), {}), (("3d.yaml",), VOLUME)], ids=["2D", "GPU overlay", "3D"]
)
def test_it_trains_with_all_heads_resumes_evaluates_and_infers(workflow, tmp_path, cells, layers, settings, caplog):
    options = {**SMALL, "max_epochs": 2, "steps_per_epoch": 2, **settings}
    run = workflow("train.json", *layers, NETWORK, RECIPE, **options)
    assert run.check_properties() == []
    run.run()
    sample = run.parser.get_parsed_content("train::trainer").state.output[0]
    dims = sample["image"].ndim - 1
    assert sample["pred"].shape == (2, 2, *[16] * dims)
    assert sample["label"].shape == (2, *[16] * dims)
    assert np.isfinite(sample["loss"])
    assert "no picture" not in caplog.text

    workflow("train.json", *layers, NETWORK, RECIPE, **{**options, "max_epochs": 3, "resume": True}).run()
    assert all_of(tmp_path)["epoch"] == 3
    kept = str(tmp_path / "models" / "model.yaml")
    workflow("train.json", *layers, NETWORK, RECIPE, "evaluate.json", kept, **options).run()
    assert json.loads((tmp_path / "output" / "scores.json").read_text())["scores"].keys() == {"val_f1"}

    shape = (43, 71) if dims == 2 else (9, 19, 33)
    (tmp_path / "odd").mkdir()
    image = np.random.default_rng(0).integers(0, 255, shape, np.uint8)
    tifffile.imwrite(tmp_path / "odd" / "image.tif", image, metadata={"axes": "ZYX"[-dims:]})
    inferring = ("inference.json", *(name for name in layers if name == "3d.yaml"), NETWORK, RECIPE, kept)
    workflow(*inferring, workflow_type="infer", **{**options, "dataset_dir": str(tmp_path / "odd")}).run()
    assert tifffile.imread(tmp_path / "output" / "image_seg.tif").shape == shape


def test_a_training_resumed_after_an_epoch_continues_as_if_it_had_not_stopped(workflow, tmp_path):
    policy = {"train#trainer#max_epochs": 2, "lr_scheduler#lr_lambda#max_epochs": 2}
    workflow("train.json", NETWORK, RECIPE, **SMALL, **policy, steps_per_epoch=2).run()
    whole = all_of(tmp_path)
    for epochs, resume in ((1, False), (2, True)):
        policy["train#trainer#max_epochs"] = epochs
        places = {"ckpt_dir": str(tmp_path / "parts" / "models")}
        workflow("train.json", NETWORK, RECIPE, **SMALL, **policy, **places, steps_per_epoch=2, resume=resume).run()
    parts = all_of(tmp_path / "parts")
    assert parts["epoch"] == whole["epoch"] == 2
    assert all(torch.equal(tensor, parts["network"][name]) for name, tensor in whole["network"].items())


def test_steps_are_clipped_on_demand_only(workflow):
    def steps(max_gradient):
        """How far two steps at a small rate, without momentum, have moved the weights."""
        options = {"max_gradient": max_gradient, "momentum": 0.0, "optimizer#nesterov": False, "learning_rate": 1.0}
        run = workflow("train.json", NETWORK, RECIPE, **SMALL, **options, max_epochs=1, steps_per_epoch=1, seed=0)
        network = run.parser.get_parsed_content("network_def")
        before = torch.cat([p.detach().flatten().clone() for p in network.parameters()])
        run.run()
        return torch.linalg.vector_norm(torch.cat([p.detach().flatten() for p in network.parameters()]) - before)

    free = steps(None)
    assert free > 0.02
    torch.testing.assert_close(steps(0.01), torch.tensor(0.01), rtol=0.05, atol=0)  # weight decay moves them as well


def trained_network():
    """A small network in evaluation mode that still holds the heads of its last step, as at a validation."""
    network = parsed(below="inference.json", **SMALL).get_parsed_content("network_def")
    network(torch.randn(2, 1, 16, 16)).sum().backward()
    return network.eval()


def test_onnx_of_it_answers_with_the_first_head(in_onnx_runtime):
    network, image = trained_network(), torch.randn(2, 1, 16, 24)
    exported = in_onnx_runtime(network, torch.randn(1, 1, 16, 16))
    with torch.no_grad():
        torch.testing.assert_close(exported(image), network(image), atol=1e-4, rtol=0)


def test_without_its_heads_it_is_the_network_of_the_other_overlay_and_can_be_scripted(tmp_path):
    """With them MONAI's network cannot: it assigns to an element of an optional list."""
    deep, image = trained_network(), torch.randn(1, 1, 16, 24)
    settings = {key: value for key, value in SMALL.items() if "deep" not in key}
    parser = ConfigParser()
    parser.read_config([str(ROOT / "configs" / file) for file in ("inference.json", NETWORK)])
    parser.update(settings)
    plain = parser.get_parsed_content("network_def").eval()
    plain.load_state_dict({name: tensor for name, tensor in deep.state_dict().items() if "super" not in name})
    write_torchscript(plain, tmp_path / "network.ts")
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "network.ts")(image), deep(image))


@pytest.mark.slow
def test_it_learns_the_bright_cells(workflow, tmp_path):
    small = {**SMALL, "network_def#filters": [8, 16, 24], "output_size": 32, "min_size": 10}
    run = workflow("train.json", NETWORK, RECIPE, **small, max_epochs=10, steps_per_epoch=20, val_interval=5)
    losses = []
    run.parser["train#trainer#loss_function"] = _Remembered(run.parser.get_parsed_content("loss"), losses)
    run.initialize()
    run.run()
    assert np.mean(losses[-20:]) < 0.3 * np.mean(losses[:5])
    workflow("train.json", NETWORK, RECIPE, "evaluate.json", **small).run()
    assert json.loads((tmp_path / "output" / "scores.json").read_text())["scores"]["val_f1"] > 0.9


class _Remembered(torch.nn.Module):
    """A loss that writes down what it was."""

    def __init__(self, loss, losses):
        super().__init__()
        self.loss, self.losses = loss, losses

    def forward(self, logits, target):
        loss = self.loss(logits, target)
        self.losses.append(loss.item())
        return loss
