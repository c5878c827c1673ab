import sys

import pytest
import torch

from overtile.engines import bundle_root, default_device, switch, zoom_mode


@pytest.fixture
def bundles(tmp_path):
    """Two bundles and a folder that is none."""
    for name in ("one", "two"):
        (tmp_path / name / "configs").mkdir(parents=True)
        (tmp_path / name / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "other").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(["other", "one"], "one", id="second on the path, where MONAI puts it"),
        pytest.param(["two", "one"], "one", id="also when started from another bundle"),
        pytest.param(["one", "other"], "one", id="the working folder where no other is a bundle"),
        pytest.param(["other", "other", "two", "one"], "two", id="the first of several"),
    ],
)
def test_the_root_is_the_bundle_that_monai_runs(bundles, monkeypatch, path, expected):
    monkeypatch.setattr(sys, "path", [str(bundles / name) for name in path])
    assert bundle_root() == str(bundles / expected)


def test_the_root_is_absolute_where_the_path_is_not(bundles, monkeypatch):
    monkeypatch.chdir(bundles / "one")
    monkeypatch.setattr(sys, "path", [""])
    assert bundle_root() == str(bundles / "one")


def test_where_there_is_no_bundle_the_root_is_the_working_folder(bundles, monkeypatch):
    monkeypatch.chdir(bundles / "other")
    monkeypatch.setattr(sys, "path", ["", str(bundles / "missing")])
    assert bundle_root() == "."


@pytest.mark.parametrize(("available", "expected"), [(True, "cuda:0"), (False, "cpu")])
def test_the_device_is_the_first_gpu_where_there_is_one(monkeypatch, available, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert default_device() == torch.device(expected)


@pytest.mark.parametrize("word", [True, "true", "True", "YES", "on"])
def test_a_switch_is_on_however_it_is_written(word):
    assert switch(word) is True


@pytest.mark.parametrize("word", [False, "false", "False", "NO", "off"])
def test_a_switch_is_off_however_it_is_written(word):
    assert switch(word) is False


@pytest.mark.parametrize("word", ["", "maybe", 2, None])
def test_anything_else_is_no_switch(word):
    with pytest.raises(ValueError, match="a switch is true or false, got"):
        switch(word)


def test_images_are_resampled_by_what_keeps_them_smooth_on_the_way_back():
    assert [zoom_mode(scale, 2) for scale in (0.25, 0.5, 1, 2)] == ["area", "bilinear", "bilinear", "bilinear"]
    assert zoom_mode(0.5, 3) == "trilinear"


@pytest.mark.parametrize("scale", [0, -1, [1, 1, 0.5], "half"])
def test_a_scale_that_is_no_positive_number_is_refused(scale):
    with pytest.raises(ValueError, match="scale is one positive number"):
        zoom_mode(scale, 2)
