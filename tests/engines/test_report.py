import json

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import MetaTensor
from PIL import Image

from overtile.engines import Report, report


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


def evaluate(folder, items, runs=1, **options):
    """An evaluation that finds these items; returns what scores.json holds."""
    engine = Engine(lambda engine, batch: [batch])
    Report(str(folder), **options).attach(engine)
    for _ in range(runs):
        engine.run(items, max_epochs=1)
    return json.loads((folder / "scores.json").read_text(encoding="utf-8"))


def test_of_instances_it_writes_counts_and_ratios_of_every_image(tmp_path):
    written = evaluate(
        tmp_path / "new" / "folder",
        [item(boxes(0, 4, 8), boxes(0, 4), "/data/one.ome.tif"), item(boxes(), boxes(), "/data/two.png")],
    )
    first, second = written["images"]
    picture = first.pop("picture")
    assert first == {
        "image": "/data/one.ome.tif",
        "f1": pytest.approx(4 / 5),
        "precision": 1.0,
        "recall": pytest.approx(2 / 3),
        "instances": 3,
        "found": 2,
        "panoptic_quality": pytest.approx(4 / 5),
    }
    assert (second["f1"], second["instances"], second["found"]) == (1.0, 0, 0)
    assert picture == str(tmp_path / "new" / "folder" / "000_one.png")
    assert Image.open(picture).size > (1, 1)
    assert (tmp_path / "new" / "folder" / "001_two.png").is_file()


def test_of_classes_it_writes_the_dice_of_each_and_null_where_there_is_none(tmp_path):
    truth, prediction = np.array([[0, 1], [1, 2]]), np.array([[0, 1], [2, 2]])
    written = evaluate(tmp_path, [item(truth, prediction, classes=4)], instances=False, num_classes=4)
    (image,) = written["images"]
    assert image["dice"] == [pytest.approx(2 / 3), pytest.approx(2 / 3), None]
    assert "f1" not in image


def test_the_threshold_of_a_match_can_be_chosen(tmp_path):
    shifted = boxes(0), boxes(1)  # IoU 2 / 4
    assert evaluate(tmp_path, [item(*shifted)], iou_threshold=0.5)["images"][0]["f1"] == 1
    assert evaluate(tmp_path, [item(*shifted)], iou_threshold=0.6)["images"][0]["f1"] == 0


def test_the_evaluators_numbers_are_the_scores(tmp_path):
    engine = Engine(lambda engine, batch: [batch])
    Report(str(tmp_path)).attach(engine)
    engine.state.metrics = {}

    def measure(engine):
        engine.state.metrics = {"val_f1": torch.tensor(0.5), "dice": np.float32(0.25), "per_class": np.ones(3)}

    engine.add_event_handler(Events.ITERATION_COMPLETED, measure)
    engine.run([item(boxes(0), boxes(0))], max_epochs=1)
    scores = json.loads((tmp_path / "scores.json").read_text())["scores"]
    assert scores == {"val_f1": 0.5, "dice": 0.25}


def test_images_without_a_file_name_are_numbered(tmp_path):
    written = evaluate(tmp_path, [item(boxes(0), boxes(0)), item(boxes(4), boxes(4))])
    assert [image["image"] for image in written["images"]] == ["image 0", "image 1"]
    assert (tmp_path / "001_image.png").is_file()


def test_images_of_one_name_in_two_folders_keep_their_own_pictures(tmp_path):
    written = evaluate(tmp_path, [item(boxes(0), boxes(0), f"/{folder}/cell.tif") for folder in "ab"])
    assert len({image["picture"] for image in written["images"]}) == 2


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_no_more_pictures_are_drawn_than_asked_for_but_every_image_is_scored(tmp_path, pictures):
    written = evaluate(tmp_path, [item(boxes(0), boxes(0))] * 2, pictures=pictures)
    assert len(written["images"]) == 2
    assert len(list(tmp_path.glob("*.png"))) == pictures
    assert sum("picture" in image for image in written["images"]) == pictures


def test_a_second_evaluation_starts_a_new_report(tmp_path):
    assert len(evaluate(tmp_path, [item(boxes(0), boxes(0))], runs=2)["images"]) == 1


def test_a_volume_is_scored_whole_and_drawn_in_one_slice(tmp_path):
    truth = np.stack([boxes(0, 4), boxes(0, 4), boxes()], axis=-1)
    written = evaluate(tmp_path, [item(truth, truth, "brain.nii.gz")])
    assert written["images"][0]["instances"] == 2
    assert (tmp_path / "000_brain.png").is_file()


def test_only_the_first_process_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "rank", lambda: 1)
    engine = Engine(lambda engine, batch: [batch])
    Report(str(tmp_path / "report")).attach(engine)
    engine.run([item(boxes(0), boxes(0))], max_epochs=1)
    assert not (tmp_path / "report").exists()
