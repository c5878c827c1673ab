import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from monai.handlers import MeanDice, from_engine
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from overtile.engines import InstanceF1, Report, report
from overtile.networks import UNet

PAIR = from_engine(["pred", "label"])

# Run by torchrun in each of two processes; a file of its own, since started processes import no test module.
PROGRAM = """
import sys
import torch
import torch.distributed as dist
from ignite.engine import Engine
from monai.data import MetaTensor
from monai.handlers import from_engine
from overtile.engines import InstanceF1, Report, rank, start_processes

start_processes()
truth = torch.tensor([[[1, 1, 0, 2, 2]]])
metrics = {"val_f1": InstanceF1(output_transform=from_engine(["pred", "label"]))}
engine = Engine(lambda engine, batch: [batch])
engine.state.metric_details = {}
metrics["val_f1"].attach(engine, "val_f1")
Report(sys.argv[1], metrics=metrics).attach(engine)
engine.run([
    {
        "image": MetaTensor(truth.float(), meta={"filename_or_obj": f"/{rank()}{number}.tif"}),
        "label": truth,
        "pred": truth if rank() == 0 else truth * (truth <= number),
        "probability": torch.cat([truth == 0, truth > 0]).float(),
    }
    for number in (0, 1)
])
dist.destroy_process_group()
"""


def item(truth, prediction, file="", classes=2):
    """What the post-processing leaves of one image: (C, x, y) arrays, foreground probable where predicted."""
    truth, prediction = torch.as_tensor(truth)[None], torch.as_tensor(prediction)[None]
    probability = torch.stack([(prediction[0] == 0).float(), *[(prediction[0] > 0).float()] * (classes - 1)])
    image = MetaTensor(truth.float(), meta={"filename_or_obj": file} if file else {})
    return {"image": image, "label": truth, "pred": prediction, "probability": probability}


def boxes(*rows):
    """An image of 12x12 pixels with one numbered bar of three rows starting at each of the given rows."""
    label = np.zeros((12, 12), np.int32)
    for number, row in enumerate(rows, start=1):
        label[row : row + 3, 2:10] = number
    return label


def evaluate(folder, items, runs=1, metrics=None, **options):
    """An evaluation that finds these items; returns what scores.json holds."""
    engine = Engine(lambda engine, batch: [batch])
    engine.state.metric_details = {}
    metrics = {"val_f1": InstanceF1(output_transform=PAIR)} if metrics is None else metrics
    for name, metric in metrics.items():
        metric.attach(engine, name)
    Report(str(folder), metrics=metrics, **options).attach(engine)
    for _ in range(runs):
        engine.run(items, max_epochs=1)
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def page(folder):
    return (folder / "report.html").read_text(encoding="utf-8")


def test_it_writes_the_scores_of_all_images_and_of_each(tmp_path):
    folder = tmp_path / "new" / "folder"
    items = [
        item(boxes(0, 4, 8), boxes(0, 4), "/data/one.ome.tif"),
        item(boxes(0), boxes(0), "/data/two.png"),
    ]
    written = evaluate(folder, items)
    assert written["scores"] == {"val_f1": pytest.approx(6 / 7)}  # of pooled counts: 3 found, 1 missed
    assert written["images"] == [
        {"image": "/data/one.ome.tif", "val_f1": pytest.approx(4 / 5), "picture": str(folder / "000_one.png")},
        {"image": "/data/two.png", "val_f1": 1.0, "picture": str(folder / "001_two.png")},
    ]
    assert Image.open(folder / "000_one.png").size > (1, 1)
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert [row[0] for row in rows] == ["image", "/data/one.ome.tif", "/data/two.png", "all"]
    assert [float(row[1]) for row in rows[1:]] == pytest.approx([4 / 5, 1, 6 / 7])


def test_of_classes_it_writes_the_dice_of_each_and_null_where_there_is_none(tmp_path):
    def one_hot(output):
        pairs = PAIR(output)
        return [[torch.nn.functional.one_hot(a[0], 4).movedim(-1, 0) for a in side] for side in pairs]

    truth, prediction = np.array([[0, 1], [1, 2]]), np.array([[0, 1], [2, 2]])
    dice = MeanDice(include_background=False, output_transform=one_hot)
    found = item(truth, prediction, classes=4)
    written = evaluate(tmp_path, [found, found], metrics={"dice": dice}, instances=False)
    expected = {"dice": 2 / 3, "dice_1": 2 / 3, "dice_2": 2 / 3, "dice_3": None}
    assert {name: written["images"][1][name] for name in expected} == pytest.approx(expected)
    assert written["scores"] == pytest.approx(expected)


def test_the_evaluators_single_numbers_are_the_scores(tmp_path):
    engine = Engine(lambda engine, batch: [batch])
    Report(str(tmp_path)).attach(engine)
    engine.state.metrics = {}

    def measure(engine):
        engine.state.metrics = {"val_f1": torch.tensor(0.5), "far": float("nan"), "per_class": np.ones(3)}

    engine.add_event_handler(Events.ITERATION_COMPLETED, measure)
    engine.run([item(boxes(0), boxes(0))], max_epochs=1)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["scores"] == {"val_f1": 0.5, "far": None}
    assert set(written["images"][0]) == {"image", "picture"}


def test_images_without_a_file_name_are_numbered(tmp_path):
    written = evaluate(tmp_path, [item(boxes(0), boxes(0)), item(boxes(4), boxes(4))])
    assert [image["image"] for image in written["images"]] == ["image 0", "image 1"]
    assert (tmp_path / "001_image_1.png").is_file()


def test_images_of_one_name_in_two_folders_keep_their_own_pictures_and_names(tmp_path):
    written = evaluate(tmp_path, [item(boxes(0), boxes(0), f"/{folder}/cell.tif") for folder in "ab"])
    assert len({image["picture"] for image in written["images"]}) == 2
    assert "<td>a/cell.tif</td>" in page(tmp_path)


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_no_more_picture_files_are_written_than_asked_for_but_the_page_is_whole(tmp_path, pictures):
    written = evaluate(tmp_path, [item(boxes(0), boxes(0))] * 2, pictures=pictures)
    assert len(list(tmp_path.glob("*.png"))) == pictures
    assert sum("picture" in image for image in written["images"]) == pictures
    assert page(tmp_path).count("<figure>") == 2 * 3


def test_a_second_evaluation_starts_a_new_report(tmp_path):
    assert len(evaluate(tmp_path, [item(boxes(0), boxes(0))], runs=2)["images"]) == 1


def test_a_volume_is_scored_whole_and_drawn_in_one_slice(tmp_path):
    truth = np.stack([boxes(0, 4), boxes(0, 4), boxes()], axis=-1)
    written = evaluate(tmp_path, [item(truth, truth, "brain.nii.gz")])
    assert written["images"][0]["val_f1"] == 1
    assert (tmp_path / "000_brain.png").is_file()


def test_the_page_shows_the_best_the_median_and_the_worst_image(tmp_path):
    found = {"worst": boxes(), "best": boxes(0, 4, 8), "median": boxes(0), "other": boxes(0, 4)}
    evaluate(tmp_path, [item(boxes(0, 4, 8), label, f"/{name}.tif") for name, label in found.items()])
    for verdict in ("best", "median", "worst"):
        assert f"<h3>{verdict}: {verdict}.tif" in page(tmp_path)


def test_the_experiment_its_published_scores_and_the_curves_stand_on_the_page(tmp_path):
    with SummaryWriter(str(tmp_path / "tensorboard")) as writer:
        writer.add_scalar("train_loss", 0.25, 1)
    published = [{"name": "the paper", "score": 0.9203, "source": "arXiv:1505.04597"}]
    experiment = {"name": "My cells", "metric": "val_f1", "metric_name": "F1 at 0.5", "published": published}
    evaluate(tmp_path, [item(boxes(0), boxes(0))], experiment=experiment, dataset="/data/cells", weights="model.pt")
    for text in ("<h1>My cells</h1>", "F1 at 0.5", "0.9203", "https://arxiv.org/abs/1505.04597", "train_loss"):
        assert text in page(tmp_path)
    assert "/data/cells" in page(tmp_path)
    assert "model.pt" in page(tmp_path)


def test_what_is_published_is_not_put_beside_another_metric(tmp_path):
    experiment = {"name": "x", "metric": "val_seg", "published": [{"name": "other", "score": 0.12345, "source": ""}]}
    evaluate(tmp_path, [item(boxes(0), boxes(0))], experiment=experiment)
    assert "0.1235" not in page(tmp_path)


def test_the_network_is_summed_up(tmp_path):
    engine = Engine(lambda engine, batch: [batch])
    engine.network = UNet()
    Report(str(tmp_path)).attach(engine)
    engine.run([item(boxes(0), boxes(0))], max_epochs=1)
    assert "UNet, 4 levels, valid convolutions, 31,030,658 parameters" in page(tmp_path)


@pytest.mark.parametrize("instances", [True, False], ids=["instances", "classes"])
def test_voxels_without_ground_truth_are_darkened_in_the_picture(tmp_path, instances):
    truth = boxes()
    truth[:6] = 255 if instances else 0
    unknown = item(truth, boxes())
    unknown["image"] = MetaTensor(torch.arange(144.0).reshape(1, 12, 12))
    unknown["weight"] = torch.ones(1, 12, 12)
    unknown["weight"][:, :6] = 0
    evaluate(tmp_path, [unknown], metrics={}, instances=instances, ignore_label=255)
    picture = np.asarray(Image.open(tmp_path / "000_image_0.png"), int)[..., 0]
    width = (picture.shape[1] + 8) // 4
    image, shown = (picture[26:, place : place + width - 8] for place in (0, width))
    half = image.shape[1] // 2
    assert np.array_equal(shown[:, half:], image[:, half:])
    assert np.array_equal(shown[:, :half], image[:, :half] // 3)


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "rank", lambda: 1)
    engine = Engine(lambda engine, batch: [batch])
    Report(str(tmp_path / "report")).attach(engine)
    engine.run([item(boxes(0), boxes(0))], max_epochs=1)
    assert not (tmp_path / "report").exists()


@pytest.mark.slow
def test_the_images_of_two_processes_stand_in_one_table(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    command = [*launcher, str(tmp_path / "program.py"), str(tmp_path / "report")]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "report" / "scores.json").read_text())
    scores = {image["image"]: image["val_f1"] for image in written["images"]}
    assert scores == {"/00.tif": 1, "/01.tif": 1, "/10.tif": 0, "/11.tif": pytest.approx(2 / 3)}
    assert written["scores"] == {"val_f1": pytest.approx(2 * 5 / (2 * 5 + 3))}
    assert sorted(file.name for file in (tmp_path / "report").glob("*.png")) == ["000_00.png", "001_01.png"]
