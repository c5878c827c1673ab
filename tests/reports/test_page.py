import re
from html.parser import HTMLParser

import numpy as np
import pytest

from overtile.reports import Curve, Evaluation, Scene, TrainingSample, applicable, comparisons, report_page
from overtile.reports.page import comparison
from overtile.reports.rendering import linked

VOID = {"meta", "img", "br", "link", "input", "hr", "path", "circle"}
EXPERIMENT = {
    "name": "Cells & <cells>",
    "source": "https://example.org/data?a=1&b=2",
    "citation": "Somebody et al. 2014, doi:10.1093/bioinformatics/btu080.",
    "licence": "CC0",
    "split": "sequence 01",
    "metric": "val_seg",
    "metric_name": "SEG",
    "higher_is_better": True,
    "published": [
        {"name": "the paper", "score": 0.7756, "source": "arXiv:1505.04597"},
        {"name": "best", "score": 0.887, "source": "doi:10.1038/s41598-024-56081-7"},
    ],
}


class Page(HTMLParser):
    """Elements and text of a page; a tag that does not close the last one opened is an error."""

    def __init__(self, html):
        super().__init__()
        self.open, self.elements, self.words = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def scene():
    label = np.zeros((20, 30), np.int32)
    label[5:10, 5:10] = 1
    image = np.random.default_rng(0).random((20, 30)).astype(np.float32)
    return Scene.of(image, label, label, image)


def evaluation(**changes):
    image = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    label = (image > 0.9).astype(np.int32)
    window = image[:20, :20], label[5:15, 5:15], 1 + image[5:15, 5:15]
    content = {
        "title": "Cells & <cells>",
        "facts": [("data", "/data/<x>")],
        "scores": {"val_seg": 0.81234, "val_error": 0.000353, "val_none": None},
        "headline": "val_seg",
        "higher_is_better": {"val_seg": True, "val_error": False},
        "images": [
            {"image": "/data/01/t1.tif", "val_seg": 0.9, "val_error": 0.1},
            {"image": "/data/02/t1.tif", "val_seg": 0.7, "val_error": None},
        ],
        "examples": [("best", 0, scene()), ("worst", 1, scene())],
        "curves": [Curve("train_loss", (1, 2), (1.0, 0.5))],
        "training": TrainingSample(image, label, 1 + image, *window),
        "experiment": EXPERIMENT,
    }
    return Evaluation(**{**content, **changes})


EMPTY = {"images": (), "examples": (), "curves": (), "training": None, "experiment": {}, "scores": {}, "headline": ""}


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({}, id="all"),
        pytest.param({"instances": False}, id="classes"),
        pytest.param({"images": (), "examples": ()}, id="no images"),
        *(pytest.param({name: EMPTY[name]}, id=f"no {name}") for name in ("curves", "training", "experiment")),
        pytest.param({"headline": ""}, id="no headline"),
        pytest.param(EMPTY, id="nothing"),
    ],
)
def test_the_page_is_well_formed_and_needs_nothing_from_elsewhere(changes):
    html = report_page(evaluation(**changes))
    page = Page(html)
    for tag, attributes in page.elements:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert set(attributes) & {"src", "srcset", "data", "action", "background", "xlink:href"} <= {"src"}
        assert attributes.get("src", "data:image/").startswith("data:image/")
        assert tag == "a" or "href" not in attributes
    assert not re.search(r"url\(|@import|fetch\(|XMLHttpRequest|import\(", html)


def test_the_page_of_a_whole_evaluation_tells_its_numbers():
    text = Page(report_page(evaluation())).text
    assert "Cells & <cells>" in text
    assert "SEG 0.8123 higher is better; 2 images" in text
    assert (
        "best 0.8870 doi:10.1038/s41598-024-56081-7 this evaluation, on its own split 0.8123 the paper 0.7756" in text
    )
    assert "higher is better" in text
    assert "The images differ" in text
    assert "Split: sequence 01" in text
    assert "val_error 0.000353 lower is better val_none –" in text
    assert "01/t1.tif 0.9000 0.1000 02/t1.tif 0.7000 – all 0.8123 0.000353" in text
    assert "step 2: 0.5000; lowest 0.5000, highest 1.0000" in text
    assert "best: 01/t1.tif, SEG 0.9000" in text
    assert "worst: 02/t1.tif, SEG 0.7000" in text


def test_our_row_is_marked():
    rows = [attributes for tag, attributes in Page(report_page(evaluation())).elements if tag == "tr"]
    assert sum("ours" in attributes.get("class", "") for attributes in rows) == 2  # beside others, among the scores


def test_two_images_are_shown_in_three_panels_each_and_the_sample_in_six():
    images = [a for tag, a in Page(report_page(evaluation())).elements if tag == "img"]
    assert len(images) == 2 * 3 + 6
    assert all(image["alt"] for image in images)


def test_classes_have_a_legend_of_the_colours_to_be_seen():
    assert "Colours of the classes: 1." in Page(report_page(evaluation(instances=False))).text
    assert "rgb(230 159 0)" in report_page(evaluation(instances=False))
    assert "Colours of the classes" not in Page(report_page(evaluation())).text


def test_weights_have_a_scale_or_one_value():
    assert "on a logarithmic scale" in Page(report_page(evaluation())).text
    image = np.random.default_rng(0).random((40, 30)).astype(np.float32)
    ones = TrainingSample(image, 0 * image, 0 * image + 1, image, 0 * image, 0 * image + 1)
    assert "Every voxel has the weight 1;" in Page(report_page(evaluation(training=ones))).text


def test_what_is_not_there_is_said_or_left_out():
    text = Page(report_page(evaluation(**EMPTY))).text
    assert "No curves: the output folder holds no TensorBoard files" in text
    assert "Beside published scores" not in text
    assert "What the network saw" not in text


def test_of_an_error_the_lowest_is_the_best():
    rows = comparison(0.5, [{"name": "a", "score": 0.1, "source": ""}, {"name": "b", "score": 0.9}], False)
    assert [(row["score"], row["place"], row["ours"]) for row in rows] == [
        (0.1, 0, False),
        (0.5, 50, True),
        (0.9, 100, False),
    ]
    text = Page(report_page(evaluation(higher_is_better={"val_seg": False}))).text
    assert "lower is better" in text
    assert "better to the left" in text


def test_published_rows_stand_beside_the_metric_they_are_of():
    rows = [
        {"name": "the paper", "score": 0.9, "source": "here"},
        {"name": "the paper", "score": 0.0003, "source": "there", "metric": "val_error"},
        {"name": "another", "score": 0.5, "source": "", "metric": "not measured"},
    ]
    measured = {"val_error": 0.0002, "val_seg": 0.8}
    tables = comparisons(
        evaluation(
            scores=measured,
            headline="val_seg",
            higher_is_better={"val_seg": True, "val_error": False},
            experiment={"metric": "val_seg", "metric_name": "SEG", "published": rows},
        )
    )
    assert [(table.metric, [row["score"] for row in table.rows]) for table in tables] == [
        ("SEG", [0.9, 0.8]),
        ("val_error", [0.0002, 0.0003]),
    ]
    assert str(tables[1]).splitlines() == [
        "val_error, lower is better",
        "> this evaluation, on its own split    0.0002",
        "  the paper                            0.0003  there",
    ]


def test_without_a_score_of_ours_the_published_rows_stand_alone():
    assert [row["ours"] for row in comparison(None, EXPERIMENT["published"])] == [False, False]
    assert comparison(None, []) == []


def test_what_is_published_of_one_metric_is_not_put_beside_another():
    assert applicable(EXPERIMENT, ["val_seg", "val_f1"]) == EXPERIMENT
    kept = applicable(EXPERIMENT, ["val_f1"])
    assert set(EXPERIMENT) - set(kept) == {"metric", "metric_name", "higher_is_better", "published"}
    unnamed = {"metric_name": "F1", "published": []}
    assert applicable(unnamed, ["val_f1"]) == unnamed


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("see https://example.org/a_b?c=1&d=2.", "https://example.org/a_b?c=1&amp;d=2"),
        ("(doi:10.1002/cyto.a.23863)", "https://doi.org/10.1002/cyto.a.23863"),
        ("arXiv:1505.04597, Table 2", "https://arxiv.org/abs/1505.04597"),
        ("http://a.org/<script>", "http://a.org/"),
    ],
)
def test_citations_are_links(text, address):
    assert re.findall('href="([^"]*)"', linked(text)) == [address]
    assert "<script>" not in linked(text)
    assert linked("a < b") == "a &lt; b"
