"""Every experiment overlay runs from the data's own layout to a scored report, on small stand-ins made here."""

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile
import torch
import yaml
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import Compose

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
EXPERIMENTS = sorted(file.stem for file in (CONFIGS / "experiments").glob("*.yaml"))
RECIPES = {"_cpu", "_sparse"}  # overlays over another experiment's
DATA_SETS = [name for name in EXPERIMENTS if not any(name.endswith(suffix) for suffix in RECIPES)]
VOLUMES = {"hippocampus", "xenopus"}
TINY_VOLUME = {"output_size": 12, "batch_size": 1}


def read(name):
    return yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))


def overlays(experiment):
    """The files of one experiment, one over the other."""
    data_set = next(name for name in sorted(DATA_SETS, key=len, reverse=True) if experiment.startswith(name))
    files = ["3d.yaml"] * (data_set in VOLUMES) + [f"experiments/{data_set}.yaml"]
    return files + [f"experiments/{experiment}.yaml"] * (experiment != data_set)


def blobs(random, shape, classes=False):
    """Bright boxes on a dark ground: image and instances (or two alternating classes)."""
    label = np.zeros(shape, np.uint16)
    for number in range(1, 5):
        corner = [int(random.integers(0, size - 9)) for size in shape]
        label[tuple(slice(start, start + 8) for start in corner)] = (number - 1) % 2 + 1 if classes else number
    image = 90.0 * (label > 0) + random.normal(60, 8, shape)
    return image.clip(0, 255).astype(np.uint8), label


def save(file, array):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.name.endswith(".nii.gz"):
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), file)
    else:
        tifffile.imwrite(file, array, photometric="minisblack")


def tracking(root, frames):
    """A sequence of the Cell Tracking Challenge: one gold frame, the rest silver, one cell without an outline."""
    random = np.random.default_rng(0)
    for number in frames:
        image, label = blobs(random, (48, 40))
        save(root / f"01/t{number}.tif", image)
        save(root / f"01_GT/TRA/man_track{number}.tif", label)
        label[label == 4] = 0
        for truth in ["ST", "GT"] if number == frames[-1] else ["ST"]:
            save(root / f"01_{truth}/SEG/man_seg{number}.tif", label)


def sections(root, values=None):
    random = np.random.default_rng(0)
    for section, count in {"training": 2, "validation": 1}.items():
        for number in range(count):
            image, label = blobs(random, (48, 40))
            label = label if values is None else np.where(label > 0, *values).astype(np.uint8)
            save(root / section / "images" / f"slice{number:02d}.tif", image)
            save(root / section / "labels" / f"slice{number:02d}.tif", label)


def decathlon(root):
    random = np.random.default_rng(0)
    for number in range(3):
        image, label = blobs(random, (20, 22, 24), classes=True)
        save(root / f"imagesTr/hippocampus_{number:03d}.nii.gz", image)
        save(root / f"labelsTr/hippocampus_{number:03d}.nii.gz", label.astype(np.uint8))
    split = {"training": ["hippocampus_000", "hippocampus_001"], "validation": ["hippocampus_002"]}
    (root / "split.json").write_text(json.dumps(split), encoding="utf-8")


def sparse_volumes(root):
    """Three stains; the paper's labels: 0 inside, 1 tubule, 2 background, and 3 off the annotated slices."""
    random = np.random.default_rng(0)
    for number in range(2):
        image, label = blobs(random, (20, 22, 24), classes=True)
        label = np.array([2, 1, 0], np.uint8)[label]
        label[:, :, [3, 4, 5, 13, 14, 15, 20]] = 3
        save(root / f"images/kidney_{number}.nii.gz", np.stack([image] * 3, axis=-1))
        save(root / f"labels/kidney_{number}.nii.gz", label)


STAND_INS = {
    "bbbc039": sections,
    "dic_hela": lambda root: tracking(root, ["002", "039", "054"]),
    "hippocampus": decathlon,
    "isbi2012": lambda root: sections(root, values=(255, 0)),
    "phc_u373": lambda root: tracking(root, ["000", "001", "002"]),
    "usiigaci": sections,
    "xenopus": sparse_volumes,
}


@pytest.fixture
def data(request, tmp_path):
    """The stand-in of an experiment's data set."""
    experiment = request.node.callspec.params["experiment"]
    name = next(name for name in STAND_INS if experiment.startswith(name))
    STAND_INS[name](tmp_path / "data")
    return tmp_path / "data"


def test_every_data_set_has_a_stand_in():
    assert set(DATA_SETS) == set(STAND_INS)


@pytest.mark.parametrize("experiment", DATA_SETS)
def test_an_experiment_says_where_its_data_and_numbers_are_from(experiment):
    content = read(f"experiments/{experiment}.yaml")
    about = content["experiment"]
    assert {
        "name",
        "source",
        "citation",
        "licence",
        "classes",
        "spacing",
        "preprocessing",
        "split",
        "metric",
        "metric_name",
        "higher_is_better",
    } <= set(about)
    assert all(
        {"name", "score", "source"} == set(row) - {"metric"} and 0 < row["score"] <= 1 for row in about["published"]
    )
    train = json.loads((CONFIGS / "train.json").read_text(encoding="utf-8"))
    scores = {*content.get("key_metric", train["key_metric"]), *content.get("additional_metrics", ())}
    assert about["metric"] in scores


@pytest.mark.parametrize("experiment", EXPERIMENTS)
@pytest.mark.parametrize("base", ["train.json", "inference.json"])
def test_an_overlay_sets_only_what_the_training_has(experiment, base):
    train = json.loads((CONFIGS / "train.json").read_text(encoding="utf-8"))
    for name in overlays(experiment):
        assert set(read(name)) <= set(train), name
    parser = ConfigParser()
    parser.read_config([CONFIGS / name for name in [base, *overlays(experiment)]])
    parser.get_parsed_content("network_def")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_trains_is_scored_and_segments_new_images(experiment, data, workflow, tmp_path):
    files = overlays(experiment)
    tiny = TINY_VOLUME if "3d.yaml" in files else {}
    settings = {"dataset_dir": str(data), "max_epochs": 1, "averaging": "none", **tiny}
    workflow("train.json", *files, **settings).run()
    workflow("train.json", *files, "evaluate.json", **settings).run()
    about = read(files[-2] if experiment not in DATA_SETS else files[-1])["experiment"]
    scores = json.loads((tmp_path / "output" / "scores.json").read_text(encoding="utf-8"))
    assert about["metric"] in scores["scores"]
    assert about["name"] in (tmp_path / "output" / "report.html").read_text(encoding="utf-8")

    images = next(folder for folder in ("01", "validation/images", "imagesTr", "images") if (data / folder).is_dir())
    settings = {"dataset_dir": str(data / images), "output_ext": ".nii.gz" if tiny else ".tif"}
    workflow("inference.json", *files, workflow_type="inference", **settings).run()
    suffix = settings["output_ext"]
    for image in (data / images).iterdir():
        file = tmp_path / "output" / image.name.replace(suffix, f"_seg{suffix}")
        shape = nibabel.load(file).shape if tiny else tifffile.imread(file).shape
        assert shape[: 3 if tiny else 2] == ((20, 22, 24) if tiny else (48, 40))


def test_an_image_at_half_resolution_comes_back_smooth_and_slices_survive(workflow):
    """A ramp shrunk and restored is off by its end pieces alone; block replication would be off by half a step."""
    files = ("train.json", "experiments/dic_hela_cpu.yaml")
    made = workflow(*files, scale=0.5, markers=False, ignore_label=9, annotated_slices=[2, 0], class_weights=None)
    parser = made.parser
    ramp = np.repeat(np.arange(48, dtype=np.float32)[:, None], 40, axis=1)
    data = {"image": MetaTensor(torch.from_numpy(ramp)[None]), "label": MetaTensor(torch.ones(1, 48, 40))}
    shrink, restore = (parser.get_parsed_content(name) for name in ("shrink", "restore"))
    small = shrink(data)
    assert small["image"].shape == (1, 24, 20)
    restore.transform = Compose([shrink])
    back = restore({**small, "pred": small["image"].clone()})
    np.testing.assert_allclose(back["pred"][0, 1:-1, 1:-1], ramp[1:-1, 1:-1], atol=1e-4)

    keep = parser.get_parsed_content("train::deterministic_transforms")
    names = [type(step).__name__ for step in keep]
    assert names.index("KeepSlicesd") > max(place for place, name in enumerate(names) if name == "Zoomd")
