import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from overtile.reports import Curve
from overtile.reports.charts import BINS, line_chart, ticks


def points(chart, kind):
    """Coordinates of the path of one class, (n, 2)."""
    (path,) = [part for part in ET.fromstring(chart).iter() if part.get("class") == kind]
    return np.array(re.findall(r"(-?[\d.]+) (-?[\d.]+)", path.get("d")), float)


def test_the_line_goes_through_the_values():
    line = points(line_chart(Curve("score", (0, 5, 10), (0.0, 1.0, 0.5))), "line")
    assert np.allclose(np.diff(line[:, 0]), np.ptp(line[:, 0]) / 2, atol=0.1)
    assert line[2, 1] - line[1, 1] == pytest.approx((line[0, 1] - line[1, 1]) / 2, abs=0.1)  # up is small y


def test_many_values_are_drawn_as_their_mean_in_a_band_of_their_extremes():
    values = np.tile([0.0, 1.0], 5 * BINS)
    chart = line_chart(Curve("train_loss", tuple(range(1, len(values) + 1)), tuple(values)))
    line, band = points(chart, "line"), points(chart, "band")
    assert len(line) == BINS
    assert np.ptp(line[:, 1]) < 1e-6
    assert line[0, 1] == pytest.approx((band[:, 1].min() + band[:, 1].max()) / 2, abs=0.1)


@pytest.mark.parametrize(
    "curve",
    [
        pytest.param(Curve("s", (2,), (0.3,)), id="one point"),
        pytest.param(Curve("s", (1, 2), (0.0, 0.0)), id="zeros"),
        pytest.param(Curve("s", (1, 2), (-1e-9, 1e9)), id="wide"),
        pytest.param(Curve("<&>", (1, 2), (1.0, 2.0)), id="a name with markup"),
    ],
)
def test_a_chart_is_well_formed_and_all_of_it_inside(curve):
    chart = ET.fromstring(line_chart(curve))
    width, height = map(float, chart.get("viewBox").split()[2:])
    line = points(line_chart(curve), "line")
    assert (line >= 0).all()
    assert (line <= (width, height)).all()
    assert curve.name in chart.get("aria-label")


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (0.92, 0.93, [0.92, 0.922, 0.924, 0.926, 0.928, 0.93]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert ticks(low, high) == expected


@pytest.mark.parametrize("high", [1, 2, 3, 7, 160, 30000])
def test_ticks_of_steps_are_whole_and_few_and_reach_the_end(high):
    found = ticks(0, high, whole=True)
    assert all(tick == int(tick) for tick in found)
    assert 2 <= len(found) <= 6
    assert found[-1] >= high
