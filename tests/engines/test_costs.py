import json

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from overtile.engines import Costs
from overtile.engines.costs import device_name, peak_bytes
from overtile.networks import UNet


def costs(tmp_path, section):
    return json.loads((tmp_path / "output" / "costs.json").read_text())[section]


def test_a_training_and_an_evaluation_write_what_they_cost_into_one_file(workflow, tmp_path):
    workflow("train.json", "compare.yaml", max_epochs=3).run()
    training = costs(tmp_path, "training")
    assert list(training["epochs"]) == ["1", "2", "3"]
    assert training["steps"] == 6
    assert training["seconds"] == pytest.approx(sum(training["epochs"].values()))
    assert 0 < training["seconds_per_step"] < training["seconds"]

    workflow("train.json", "evaluate.json", "compare.yaml").run()
    assert costs(tmp_path, "training") == training
    inference = costs(tmp_path, "inference")
    assert inference["parameters"] == sum(p.numel() for p in UNet(levels=1, features=2).parameters())
    assert (inference["images"], inference["voxels"]) == (1, 40 * 48)
    assert 0 < inference["seconds"] < inference["total_seconds"]
    for section in (training, inference):
        assert 50e6 < section["peak_bytes"] < 100e9
        assert "thread" in section["device"]


def trained(file, epochs, begins_after=0):
    """A training of two steps an epoch that goes on after an epoch, with costs in the file."""

    def resume(engine):
        engine.state.epoch, engine.state.iteration = begins_after, 2 * begins_after

    engine = Engine(lambda engine, batch: None)
    engine.network = nn.Linear(1, 1)
    engine.add_event_handler(Events.STARTED, resume)
    Costs(str(file), "training").attach(engine)
    engine.run([0, 0], max_epochs=epochs)
    return json.loads(file.read_text())["training"]


def test_a_training_that_goes_on_keeps_the_time_of_the_epochs_before_and_forgets_lost_ones(tmp_path):
    file = tmp_path / "costs.json"
    first = trained(file, epochs=3)
    last = trained(file, epochs=4, begins_after=2)
    assert [last["epochs"][epoch] == first["epochs"][epoch] for epoch in "123"] == [True, True, False]
    assert list(last["epochs"]) == ["1", "2", "3", "4"]
    assert last["steps"] == 8
    afresh = trained(file, epochs=1)
    assert list(afresh["epochs"]) == ["1"]


def test_the_peak_of_memory_holds_what_was_allocated():
    before = peak_bytes(torch.device("cpu"))
    held = torch.ones(before // 4 + 10_000_000)  # float32: more bytes than the process ever had
    assert peak_bytes(torch.device("cpu")) >= held.nbytes > before


def test_the_device_is_named_as_people_call_it():
    assert f"{torch.get_num_threads()} thread" in device_name(torch.device("cpu"))
    assert device_name(torch.device("meta")) == "meta"


def test_another_section_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'training' or 'inference', got 'validation'"):
        Costs(str(tmp_path / "costs.json"), "validation")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_peak_is_that_of_its_tensors():
    device = torch.device("cuda")
    torch.cuda.reset_peak_memory_stats(device)
    before = peak_bytes(device)
    held = torch.empty(100_000_000, dtype=torch.uint8, device=device)
    assert peak_bytes(device) - before == pytest.approx(held.nbytes, rel=0.05)
    assert "thread" not in device_name(device)
