import io
import logging
import traceback

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import IMAGES, SCALARS, EventAccumulator

from overtile.data import sample_folder
from overtile.engines import TrainingPictures, ValidationPictures

VOLUME = {"dataset_dir": sample_folder(3), "spatial_dims": 3, "output_size": 12, "grid_spacing": None}


def events(folder):
    """Every tag in a folder of TensorBoard's files: (step, picture) or (step, number), in the order of the steps."""
    found = {}
    for file in folder.glob("events.out.tfevents.*"):
        reader = EventAccumulator(str(file), size_guidance={IMAGES: 0, SCALARS: 0})
        reader.Reload()
        for tag in reader.Tags()["images"]:
            pictures = [
                (e.step, np.asarray(Image.open(io.BytesIO(e.encoded_image_string)))) for e in reader.Images(tag)
            ]
            found.setdefault(tag, []).extend(pictures)
        for tag in reader.Tags()["scalars"]:
            found.setdefault(tag, []).extend((e.step, e.value) for e in reader.Scalars(tag))
    return {tag: sorted(entries, key=lambda entry: entry[0]) for tag, entries in found.items()}


def steps(entries):
    return [step for step, _ in entries]


def one_step(output, handler, epochs=1):
    engine = Engine(lambda engine, batch: output)
    handler.attach(engine)
    engine.run([None], max_epochs=epochs)


def output(channels=1, classes=2, size=20, dtype=torch.float32):
    """What a training step leaves: a window of 20 voxels read with a margin of 4, and logits that want a gradient."""
    torch.manual_seed(0)
    logits = torch.randn(2, classes, size, size, dtype=dtype).requires_grad_()
    target = torch.stack([torch.randint(classes, (2, size, size)).float(), torch.rand(2, size, size)], dim=1)
    return {"image": torch.randn(2, channels, size + 8, size + 8), "label": target, "pred": logits}


def item(truth, prediction, **rest):
    """What a validation leaves of one image."""
    probability = torch.stack([(prediction == 0).float(), (prediction > 0).float()])
    return {
        "pred": prediction[None],
        "label": truth[None],
        "image": truth[None].float(),
        "probability": probability,
        **rest,
    }


def coloured(picture):
    return int((np.ptp(picture.astype(int), axis=-1) > 0).sum())


def test_a_training_shows_pictures_at_every_validation_and_all_curves(workflow, tmp_path):
    workflow("train.json", max_epochs=4, val_interval=2).run()
    found = events(tmp_path / "output" / "tensorboard")
    assert found.keys() == {"training sample", "validation image", "train_loss", "val_f1", "learning_rate"}
    assert steps(found["training sample"]) == steps(found["validation image"]) == steps(found["val_f1"]) == [2, 4]
    assert steps(found["train_loss"]) == list(range(1, 9))
    assert coloured(found["training sample"][0][1]) > 0
    assert coloured(found["validation image"][0][1]) > 0


def test_the_learning_rate_is_that_of_the_epoch_not_of_the_next(workflow, tmp_path):
    workflow("train.json", max_epochs=4, learning_rate=0.5).run()
    (first, *later) = events(tmp_path / "output" / "tensorboard")["learning_rate"]
    assert first == (1, 0.5)
    assert steps(later) == [2, 3, 4]
    assert 0.5 > later[0][1] > later[1][1] > later[2][1] > 0


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({"instances": False, "out_channels": 4}, id="classes"),
        pytest.param({"ignore_label": 2}, id="ignored instances"),
        pytest.param({"instances": False, "ignore_label": 3, "out_channels": 3}, id="ignored classes"),
        pytest.param(VOLUME, id="volume"),
        pytest.param({"padding": "same"}, id="no margin"),
        pytest.param({"scale": 0.5}, id="half resolution"),
        pytest.param({"batch_size": 2}, id="two samples"),
    ],
)
def test_every_kind_of_training_has_both_pictures(workflow, tmp_path, settings, caplog):
    workflow("train.json", max_epochs=1, **settings).run()
    assert "no picture" not in caplog.text
    found = events(tmp_path / "output" / "tensorboard")
    assert steps(found["training sample"]) == steps(found["validation image"]) == [1]


def test_pictures_do_not_change_the_training(workflow, tmp_path):
    weights = []
    for handlers in (2, 0):
        made = workflow("train.json", ckpt_dir=str(tmp_path / f"models{handlers}"), dropout=0.5)
        for place in ("train", "validate")[: 2 - handlers]:
            kept = [h for h in made.parser[f"{place}#handlers"] if "Pictures" not in h["_target_"]]
            assert len(kept) == len(made.parser[f"{place}#handlers"]) - 1
            made.parser[f"{place}#handlers"] = kept
        made.initialize()
        made.run()
        weights.append(torch.load(tmp_path / f"models{handlers}" / "model.pt", weights_only=True))
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])


def test_a_folder_that_cannot_be_written_is_named_before_the_training_starts(workflow, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what goes wrong in a component of a config
        workflow("train.json", output_dir=str(tmp_path / "file")).run()
    message = "".join(traceback.format_exception(caught.value))
    assert f"TensorBoard's files cannot be written to {tmp_path / 'file' / 'tensorboard'}" in message
    assert "choose another folder with --output_dir" in message
    assert not (tmp_path / "models").exists()


def test_other_processes_than_the_first_write_nothing(workflow, tmp_path):
    workflow("train.json", first_process=False).run()
    assert not (tmp_path / "output" / "tensorboard").exists()


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(output(), id="plain"),
        pytest.param(output(channels=3), id="three channels"),
        pytest.param(output(classes=4), id="classes"),
        pytest.param(output(dtype=torch.bfloat16), id="bfloat16"),
    ],
)
def test_a_step_with_gradients_channels_and_other_number_types_is_shown(tmp_path, given):
    one_step(given, TrainingPictures(str(tmp_path), interval=2), epochs=4)
    assert steps(events(tmp_path)["training sample"]) == [2, 4]


def test_the_first_sample_of_a_batch_is_shown(tmp_path):
    whole = output()
    first = {key: tensor[:1] for key, tensor in whole.items()}
    for name, given in {"both": whole, "first": first}.items():
        one_step(given, TrainingPictures(str(tmp_path / name)))
    shown = [events(tmp_path / name)["training sample"][0][1] for name in ("both", "first")]
    assert (shown[0] == shown[1]).all()


@pytest.mark.parametrize("decollated", [False, True])
def test_of_several_heads_the_first_is_shown(tmp_path, decollated):
    plain = output()
    heads = torch.stack([plain["pred"], torch.zeros_like(plain["pred"])], dim=1)
    stacked = {**plain, "pred": heads}
    if decollated:
        stacked = [{key: tensor[i] for key, tensor in stacked.items()} for i in range(2)]
    for name, given in {"plain": plain, "stacked": stacked}.items():
        one_step(given, TrainingPictures(str(tmp_path / name)))
    shown = [events(tmp_path / name)["training sample"][0][1] for name in ("plain", "stacked")]
    assert (shown[0] == shown[1]).all()


def test_a_picture_that_cannot_be_drawn_is_logged_and_the_training_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.ERROR):
        one_step({"image": torch.zeros(1, 1, 4, 4)}, TrainingPictures(str(tmp_path)), epochs=2)
    assert "no picture of the training sample at epoch 2" in caplog.text
    assert not events(tmp_path)


def test_a_validation_shows_its_first_image_each_time(tmp_path):
    truth = torch.zeros(40, 40, dtype=torch.int32)
    truth[4:20, 4:20] = 1
    empty = torch.zeros_like(truth)
    engine = Engine(lambda engine, batch: [batch])
    ValidationPictures(str(tmp_path)).attach(engine)
    for _ in range(2):
        engine.run([item(truth, truth), item(empty, empty)], max_epochs=1)
    shown = events(tmp_path)["validation image"]
    assert len(shown) == 2
    assert coloured(shown[0][1]) > 0
    assert (shown[0][1] == shown[1][1]).all()


@pytest.mark.parametrize("instances", [True, False])
def test_voxels_without_ground_truth_are_darker(tmp_path, instances):
    truth = torch.ones(400, 400, dtype=torch.int32)
    image = torch.ones(1, 400, 400)
    image[:, :200] = 2.0
    weight = torch.ones(1, 400, 400)
    if instances:
        truth[:, 300:] = 255
    weight[:, :, 300:] = 0.0
    given = item(truth, torch.zeros_like(truth), image=MetaTensor(image), weight=weight)
    engine = Engine(lambda engine, batch: [given])
    ValidationPictures(str(tmp_path), instances, ignore_label=255).attach(engine)
    engine.run([None], max_epochs=1)
    ((_, shown),) = events(tmp_path)["validation image"]
    source, true = shown[26:426, :400], shown[26:426, 408:]
    assert source[350, 50, 0] == 255
    assert true[350, 50].max() == 85
    assert true[100, 50].max() > 85
