import csv
import re
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from overtile.reports import (
    NetworkComparison,
    NetworkResult,
    network_figure,
    network_page,
    network_table,
    write_network_csv,
)
from overtile.reports.network_chart import log_ticks

SMALL = NetworkResult("small", 0.75, 480_000, 800, 240.0, 700_000_000, 1.5e-6, 600_000_000, report="small/report.html")
LARGE = NetworkResult("large", 0.9, 31_000_000, 40, 264.0, 4_200_000_000, 20e-6, 1_500_000_000)
FAILED = NetworkResult("<failed>", remark="training failed: it takes volumes only")


def comparison(*results, **changes):
    settings = {"title": "Networks on cells", "metric": "F1", "facts": [("data", "cells & more")]}
    return NetworkComparison(results=results, **{**settings, **changes})


def rows(table):
    """Cells of a Markdown table."""
    return [[cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines() if line[:1] == "|"]


def test_the_table_has_the_best_first_and_what_failed_last_with_its_reason():
    table = network_table(comparison(FAILED, SMALL, LARGE))
    heading, rule, *body = rows(table)
    assert heading[:3] == ["network", "F1", "parameters"]
    assert all(re.fullmatch("-+:?", cell) for cell in rule)
    assert [row[0] for row in body] == ["1 large", "2 small", "3 <failed>"]
    assert body[0][1:] == ["0.9000", "31,000,000", "4.40", "40", "6.60", "4.20", "20.0", "1.50"]
    assert set(body[2][1:]) == {"–"}
    assert table.endswith("<failed>: training failed: it takes volumes only")
    assert len({len(line) for line in table.splitlines()[:5]}) == 1  # a terminal shows columns


def test_where_less_is_better_the_lowest_comes_first():
    found = comparison(SMALL, LARGE, higher_is_better=False).ranked
    assert [result.name for result in found] == ["small", "large"]


def test_the_csv_has_seconds_and_bytes(tmp_path):
    write_network_csv(tmp_path / "networks.csv", comparison(SMALL, FAILED))
    with (tmp_path / "networks.csv").open(newline="", encoding="utf-8") as stream:
        first, second = csv.DictReader(stream)
    assert (first["name"], first["training_seconds"], first["inference_bytes"]) == ("small", "240.0", "600000000")
    assert (second["score"], second["remark"]) == ("", FAILED.remark)


class Text(HTMLParser):
    """The text of a page, and where its links lead."""

    def __init__(self, html):
        super().__init__()
        self.text, self.links = "", []
        self.feed(html)

    def handle_data(self, data):
        self.text += data

    def handle_starttag(self, tag, attributes):
        self.links += [value for name, value in attributes if tag == "a" and name == "href"]


def test_the_page_has_table_plot_facts_remarks_and_links_to_reports():
    html = network_page(comparison(FAILED, SMALL, LARGE))
    page = Text(html)
    for part in ("Networks on cells", "cells & more", "31,000,000", "<failed>", FAILED.remark, "higher is better"):
        assert part in page.text
    assert page.links == ["small/report.html"]
    assert html.count("<svg") == 1
    assert "http://" not in html.replace("http://www.w3.org/2000/svg", "")


def dots(figure):
    """By network: where its dots are, panel by panel."""
    found = {}
    for group in ET.fromstring(figure).iter():
        if group.tag.rpartition("}")[2] == "g":
            title, circle, _ = group
            found.setdefault(title.text.split(":")[0], []).append((float(circle.get("cx")), float(circle.get("cy"))))
    return found


def test_the_figure_has_a_dot_per_network_and_cost_at_the_height_of_its_score():
    found = dots(network_figure(comparison(SMALL, LARGE, FAILED), alone=True))
    assert found.keys() == {"small", "large"}
    assert len(found["small"]) == len(found["large"]) == 4
    assert len({y for _, y in found["small"]}) == 1
    assert found["large"][0][1] < found["small"][0][1]  # up is small y
    assert all(cheap[0] < dear[0] for cheap, dear in zip(sorted(found["small"]), sorted(found["large"]), strict=True))


def test_costs_are_on_logarithmic_axes():
    networks = [NetworkResult(f"n{power}", 0.5, 10**power) for power in (4, 5, 6)]
    found = dots(network_figure(comparison(*networks)))
    at = [found[f"n{power}"][0][0] for power in (4, 5, 6)]
    assert at[1] - at[0] == pytest.approx(at[2] - at[1], abs=0.2)


@pytest.mark.parametrize(
    "results",
    [
        pytest.param([], id="none"),
        pytest.param([FAILED], id="failures only"),
        pytest.param([SMALL], id="one"),
        pytest.param([NetworkResult("bare", 0.0)], id="a score without costs"),
        pytest.param([NetworkResult(f"network {n}", 0.9 + n / 1e4, 1000 + n) for n in range(30)], id="many alike"),
    ],
)
def test_a_figure_is_well_formed_all_of_it_inside_and_no_name_over_another(results):
    figure = ET.fromstring(network_figure(comparison(*results), alone=True))
    width, height = map(float, figure.get("viewBox").split()[2:])
    texts = [part for part in figure.iter() if part.tag.endswith("text")]
    assert all(0 <= float(text.get("x")) <= width and 0 <= float(text.get("y")) <= height for text in texts)
    names = sorted(float(text.get("y")) for text in texts if text.get("class") is None and text.text[0].isdigit())
    assert len(names) == sum(result.score is not None for result in results)
    assert all(below - above >= 16 for above, below in pairwise(names))


@pytest.mark.parametrize(("low", "high"), [(1e5, 3e8), (0.9, 2.3), (1, 5), (3e-7, 4e-5)])
def test_logarithmic_ticks_lie_in_the_range_and_are_few(low, high):
    found = log_ticks(low, high)
    assert 1 <= len(found) <= 4
    assert all(low <= tick <= high for tick in found)
