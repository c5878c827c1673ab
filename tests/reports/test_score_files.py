import csv
import json

import pytest

from overtile.reports import write_csv, write_json

SCORES = {"val_f1": 0.75, "val_dice": None}
IMAGES = [
    {"image": '/a, "b".tif', "val_f1": 0.5, "val_dice": None},
    {"image": "/ö.tif", "val_f1": 1.0, "val_dice": 0.25},
]


def test_the_table_has_a_row_per_image_and_one_for_all(tmp_path):
    write_csv(tmp_path / "scores.csv", SCORES, IMAGES)
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.reader(stream))
    assert rows == [
        ["image", "val_f1", "val_dice"],
        ['/a, "b".tif', "0.5", ""],
        ["/ö.tif", "1.0", "0.25"],
        ["all", "0.75", ""],
    ]


def test_without_scores_of_images_the_table_has_those_of_all(tmp_path):
    write_csv(tmp_path / "scores.csv", {"val_f1": 0.5}, [])
    assert (tmp_path / "scores.csv").read_text().split() == ["image,val_f1", "all,0.5"]


def test_json_holds_scores_and_images_and_null_for_none(tmp_path):
    write_json(tmp_path / "scores.json", SCORES, IMAGES)
    assert json.loads((tmp_path / "scores.json").read_text(encoding="utf-8")) == {"scores": SCORES, "images": IMAGES}


def test_json_refuses_what_json_has_no_word_for(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "scores.json", {"val_f1": float("nan")}, [])
