"""The packaged images: an ordinary data set, with the numbers its README states."""

from pathlib import Path

import numpy as np
import pytest

from overtile.data import LoadImagesd, datalist, sample_folder


@pytest.mark.parametrize(
    ("spatial_dims", "section", "size", "nuclei"),
    [
        (2, "training", (512, 336), 84),
        (2, "validation", (512, 176), 48),
        (3, "training", (57, 40, 31), 39),
        (3, "validation", (57, 21, 31), 25),
    ],
)
def test_the_sample_is_an_ordinary_data_set(spatial_dims, section, size, nuclei):
    pairs = datalist(sample_folder(spatial_dims), section)
    loaded = LoadImagesd(["image", "label"], spatial_dims=spatial_dims, channels=1)(pairs[0])
    assert len(pairs) == 1
    assert loaded["image"].shape == loaded["label"].shape == (1, *size)
    assert np.unique(loaded["label"]).tolist() == list(range(nuclei + 1))
    assert loaded["image"][loaded["label"] > 0].mean() > loaded["image"][loaded["label"] == 0].mean()


def test_the_sample_is_small_and_tells_its_origin():
    folder = Path(sample_folder()).parent
    assert sum(path.stat().st_size for path in folder.rglob("*")) < 600_000
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(word in readme for word in ("BBBC038", "CC0", "Caicedo", "BSD 3-Clause"))
    assert "Uwe Schmidt, Martin Weigert" in (folder / "LICENSE.stardist").read_text(encoding="utf-8")


def test_there_is_no_sample_of_one_dimension():
    with pytest.raises(ValueError, match="2 and 3 spatial dimensions, got spatial_dims=1"):
        sample_folder(1)
