"""Every layout on folders of empty files: only names matter to a data list."""

import json
import logging
from pathlib import Path

import pytest

from overtile.data import datalist, image_files

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def make(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(pairs: list[dict[str, str]], root: Path) -> list[tuple[str, ...]]:
    """Paths relative to the root, which must be absolute in the list."""
    assert all(Path(path).is_absolute() for pair in pairs for path in pair.values())
    return [tuple(Path(pair[key]).relative_to(root).as_posix() for key in pair) for pair in pairs]


# --- sections -------------------------------------------------------------------------------------------------------


def test_sections_are_taken_as_they_are_and_suffixes_may_differ(tmp_path):
    make(tmp_path, "training/images/b.PNG", "training/images/a.jpg", "training/labels/a.tif", "training/labels/b.tif")
    make(tmp_path, "validation/images/c.nii.gz", "validation/labels/c.mha", "test/images/d.bmp", "test/labels/d.png")
    assert names(datalist(tmp_path), tmp_path) == [
        ("training/images/a.jpg", "training/labels/a.tif"),
        ("training/images/b.PNG", "training/labels/b.tif"),
    ]
    assert names(datalist(tmp_path, "validation"), tmp_path) == [
        ("validation/images/c.nii.gz", "validation/labels/c.mha")
    ]
    assert names(datalist(tmp_path, "test"), tmp_path) == [("test/images/d.bmp", "test/labels/d.png")]


def test_a_missing_validation_section_is_split_off_training(tmp_path):
    for i in range(5):
        make(tmp_path, f"training/images/{i}.png", f"training/labels/{i}.png")
    training, validation = (names(datalist(tmp_path, section), tmp_path) for section in ("training", "validation"))
    assert len(training) == 4
    assert len(validation) == 1
    assert not set(training) & set(validation)


def test_a_section_that_is_not_there_is_named(tmp_path):
    make(tmp_path, "training/images/a.png", "training/labels/a.png")
    with pytest.raises(FileNotFoundError, match=r"no section 'test' \(it has training\); add .*test.images"):
        datalist(tmp_path, "test")


def test_folders_may_have_other_names(tmp_path):
    make(tmp_path, "raw/a.png", "masks/a.png", "raw/b.png", "masks/b.png")
    pairs = [
        pair
        for section in ("training", "validation")
        for pair in names(datalist(tmp_path, section, images="raw", labels="masks"), tmp_path)
    ]
    assert sorted(pairs) == [("raw/a.png", "masks/a.png"), ("raw/b.png", "masks/b.png")]


# --- one pair of folders, and the split -----------------------------------------------------------------------------


@pytest.fixture
def ten(tmp_path):
    for i in range(10):
        make(tmp_path, f"images/{i}.tif", f"labels/{i}.tif")
    return tmp_path


@pytest.mark.parametrize(("fraction", "held_out"), [(0.01, 1), (0.2, 2), (0.5, 5), (0.99, 9)])
def test_training_and_validation_are_all_images_once(ten, fraction, held_out):
    training = names(datalist(ten, "training", validation_fraction=fraction), ten)
    validation = names(datalist(ten, "validation", validation_fraction=fraction), ten)
    assert len(validation) == held_out
    assert sorted(training + validation) == [(f"images/{i}.tif", f"labels/{i}.tif") for i in range(10)]
    assert training == sorted(training)


def test_the_split_depends_on_the_seed_and_on_nothing_else(ten):
    splits = [tuple(pair["image"] for pair in datalist(ten, "validation", seed=seed)) for seed in range(5)]
    assert len(set(splits)) > 1
    assert [Path(path).stem for path in splits[0]] == ["4", "7"]  # on every machine, in every version


def test_an_image_that_joins_leaves_the_others_where_they_are(ten):
    before = {pair["image"] for pair in datalist(ten, "validation")}
    make(ten, "images/new.tif", "labels/new.tif")
    after = {pair["image"] for pair in datalist(ten, "validation")}
    assert len(after - before) <= 1


def test_two_images_are_one_for_each_section(tmp_path):
    make(tmp_path, "images/a.png", "labels/a.png", "images/b.png", "labels/b.png")
    assert len(datalist(tmp_path, "training", validation_fraction=0.9)) == 1
    assert len(datalist(tmp_path, "validation", validation_fraction=0.1)) == 1


def test_a_single_image_serves_for_both_sections_with_a_warning(tmp_path, caplog):
    make(tmp_path, "images/only.png", "labels/only.png")
    with caplog.at_level(logging.WARNING):
        assert datalist(tmp_path, "training") == datalist(tmp_path, "validation") != []
    assert "only one image, only" in caplog.text


def test_hidden_files_and_files_of_other_kinds_are_passed_over(tmp_path):
    make(
        tmp_path, "images/a.png", "images/._a.png", "images/Thumbs.db", "images/b.txt", "labels/a.png", "labels/._a.png"
    )
    assert len(datalist(tmp_path)) == 1


# --- Medical Segmentation Decathlon ---------------------------------------------------------------------------------


@pytest.fixture
def msd(tmp_path):
    for i in range(4):
        make(tmp_path, f"imagesTr/t_{i}.nii.gz", f"imagesTr/._t_{i}.nii.gz", f"labelsTr/t_{i}.nii.gz")
    return make(tmp_path, "imagesTs/t_9.nii.gz")


def test_the_decathlon_without_lists_pairs_by_name_and_is_split(msd):
    assert len(datalist(msd, "training", validation_fraction=0.5)) == 2
    assert len(datalist(msd, "validation", validation_fraction=0.5)) == 2


def test_the_decathlon_test_images_have_no_labels(msd):
    assert names(datalist(msd, "test"), msd) == [("imagesTs/t_9.nii.gz",)]


def test_the_decathlon_split_is_taken_from_split_json(msd):
    (msd / "split.json").write_text(json.dumps({"training": ["t_3", "t_0.nii.gz"], "validation": ["t_1"]}))
    assert names(datalist(msd), msd) == [(f"imagesTr/t_{i}.nii.gz", f"labelsTr/t_{i}.nii.gz") for i in (0, 3)]
    assert names(datalist(msd, "validation"), msd) == [("imagesTr/t_1.nii.gz", "labelsTr/t_1.nii.gz")]


def test_the_decathlon_images_are_those_of_dataset_json(msd):
    entries = [{"image": f"./imagesTr/t_{i}.nii.gz", "label": f"./labelsTr/t_{i}.nii.gz"} for i in range(3)]
    (msd / "dataset.json").write_text(json.dumps({"training": entries, "validation": []}))
    assert len(datalist(msd, "training") + datalist(msd, "validation")) == 3
    (msd / "dataset.json").write_text(json.dumps({"training": entries[:2], "validation": entries[2:]}))
    assert names(datalist(msd, "validation"), msd) == [("imagesTr/t_2.nii.gz", "labelsTr/t_2.nii.gz")]


@pytest.mark.parametrize(
    ("file", "content", "error", "message"),
    [
        ("dataset.json", "{", ValueError, r"dataset\.json is not valid JSON"),
        ("dataset.json", "[]", ValueError, r"dataset\.json must hold an object"),
        ("dataset.json", '{"training": ["a.nii"]}', ValueError, r"dataset\.json: 'training' must be a list of"),
        ("dataset.json", '{"training": []}', FileNotFoundError, r"dataset\.json lists under 'training' no image"),
        ("dataset.json", '{"training": [{"image": "x.nii"}]}', FileNotFoundError, r"do not exist: .*x\.nii"),
        ("split.json", '{"training": ["t_7"]}', ValueError, r"split\.json names images .* not in imagesTr: t_7"),
        ("split.json", '{"validation": ["t_0"]}', ValueError, r"split\.json needs a list .* under 'training'"),
    ],
)
def test_a_broken_list_of_the_decathlon_is_named(msd, file, content, error, message):
    (msd / file).write_text(content)
    with pytest.raises(error, match=message):
        datalist(msd)


# --- Cell Tracking Challenge ----------------------------------------------------------------------------------------


@pytest.fixture
def ctc(tmp_path):
    for i in range(6):
        make(tmp_path, f"01/t{i:03d}.tif", f"02/t{i:04d}.tif", f"01_ST/SEG/man_seg{i:03d}.tif")
    make(tmp_path, "01_GT/SEG/man_seg002.tif", "01_GT/SEG/man_seg_003_001.tif", "01_GT/TRA/man_track003.tif")
    return make(tmp_path, "02_GT/SEG/man_seg0002.tif", "02_GT/SEG/man_seg0005.tif")


def test_the_annotated_frames_of_all_sequences_are_listed(ctc):
    pairs = names(datalist(ctc, "training") + datalist(ctc, "validation"), ctc)
    assert sorted(pairs) == [
        ("01/t002.tif", "01_GT/SEG/man_seg002.tif"),
        ("02/t0002.tif", "02_GT/SEG/man_seg0002.tif"),
        ("02/t0005.tif", "02_GT/SEG/man_seg0005.tif"),
    ]


def test_silver_truth_is_taken_where_asked_for(ctc):
    pairs = names(datalist(ctc, "training", truth="ST") + datalist(ctc, "validation", truth="ST"), ctc)
    assert sorted(pairs)[3] == ("01/t003.tif", "01_ST/SEG/man_seg003.tif")
    assert len(pairs) == 6


def test_gold_truth_comes_before_silver_where_both_are_asked_for(ctc):
    pairs = names(datalist(ctc, "training", truth="GT+ST") + datalist(ctc, "validation", truth="GT+ST"), ctc)
    assert sorted(pairs)[2:4] == [
        ("01/t002.tif", "01_GT/SEG/man_seg002.tif"),
        ("01/t003.tif", "01_ST/SEG/man_seg003.tif"),
    ]
    assert len(pairs) == 8  # six frames of 01, two of 02


def test_markers_are_listed_where_asked_for_and_missing_ones_named(ctc):
    with pytest.raises(FileNotFoundError, match=r"lacks man_track002\.tif; add them, or leave out markers=True"):
        datalist(ctc, markers=True)
    make(ctc, "01_GT/TRA/man_track002.tif", "02_GT/TRA/man_track0002.tif", "02_GT/TRA/man_track0005.tif")
    pairs = datalist(ctc, "training", markers=True) + datalist(ctc, "validation", markers=True)
    found = sorted(Path(pair["marker"]).relative_to(ctc).as_posix() for pair in pairs)
    assert found == ["01_GT/TRA/man_track002.tif", "02_GT/TRA/man_track0002.tif", "02_GT/TRA/man_track0005.tif"]


def test_markers_are_only_in_the_challenges_layout(tmp_path):
    make(tmp_path, "images/a.tif", "labels/a.tif", "images/b.tif", "labels/b.tif")
    with pytest.raises(ValueError, match="only the Cell Tracking Challenge's layout has markers"):
        datalist(tmp_path, markers=True)


def test_validation_frames_can_be_named(ctc):
    chosen = {"truth": "GT+ST", "validation_names": ["01/002", "02/0005"]}
    assert sorted(image for image, _ in names(datalist(ctc, "validation", **chosen), ctc)) == [
        "01/t002.tif",
        "02/t0005.tif",
    ]
    assert len(datalist(ctc, "training", **chosen)) == 6
    with pytest.raises(ValueError, match=r"no annotated image called 01/099; its images are 01/002, 02/0002, 02/0005"):
        datalist(ctc, validation_names=["01/099"])
    with pytest.raises(ValueError, match=r"must leave images on both sides; 0 of 3"):
        datalist(ctc, validation_names=[])


def test_all_frames_are_listed_where_no_label_is_required(ctc):
    pairs = datalist(ctc, "training", require_labels=False) + datalist(ctc, "validation", require_labels=False)
    assert len(pairs) == 12
    assert sum("label" in pair for pair in pairs) == 3


def test_a_sequence_without_annotation_and_an_annotation_without_frame_are_named(tmp_path):
    make(tmp_path, "01/t000.tif")
    with pytest.raises(FileNotFoundError, match=r"annotated in 01_GT/SEG/man_segNNN\.tif; .*truth='ST'"):
        datalist(tmp_path)
    make(tmp_path, "01_GT/SEG/man_seg000.tif", "01_GT/SEG/man_seg001.tif")
    with pytest.raises(ValueError, match=r"lacks the images of 1 of 2 labels: man_seg001\.tif"):
        datalist(tmp_path)


# --- MONAI Label ----------------------------------------------------------------------------------------------------


def test_the_labelled_images_of_a_monai_label_store_are_listed(tmp_path, caplog):
    make(tmp_path, "a.png", "b.png", "c.nii.gz", "labels/final/b.tif", "labels/final/c.nii.gz", "labels/final/gone.png")
    make(tmp_path, "labels/original/a.png", "datastore_v2.json")
    pairs = names(datalist(tmp_path, "training") + datalist(tmp_path, "validation"), tmp_path)
    assert sorted(pairs) == [("b.png", "labels/final/b.tif"), ("c.nii.gz", "labels/final/c.nii.gz")]
    assert "gone.png has no image" in caplog.text
    assert len(datalist(tmp_path, require_labels=False) + datalist(tmp_path, "validation", require_labels=False)) == 3


def test_a_monai_label_store_without_labels_says_what_to_do(tmp_path):
    make(tmp_path, "a.png", "labels/final/readme.txt")
    with pytest.raises(FileNotFoundError, match=r"no image of .* has a final label in .*final yet; submit"):
        datalist(tmp_path)


# --- errors ---------------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset folder .*nowhere does not exist"):
        datalist(tmp_path / "nowhere")
    make(tmp_path, "images/a.png")
    with pytest.raises(FileNotFoundError, match=r"folder .*labels does not exist"):
        datalist(tmp_path)


def test_an_empty_folder_is_named(tmp_path):
    make(tmp_path, "images/readme.txt", "labels/a.png")
    with pytest.raises(FileNotFoundError, match=r"folder .*images holds no image; the formats read are .*\.tif"):
        datalist(tmp_path)


def test_an_unknown_layout_is_answered_with_the_known_ones_and_what_is_there(tmp_path):
    make(tmp_path, "pictures/a.png", "train/a.png")
    with pytest.raises(
        ValueError, match=r"none of the layouts .*images \+ labels.*imagesTr.*it holds pictures, train;"
    ):
        datalist(tmp_path)


def test_up_to_five_images_without_label_are_named(tmp_path):
    make(tmp_path, *(f"images/i{i}.png" for i in range(8)), "labels/i0.png")
    with pytest.raises(ValueError, match=r"lacks the labels of 7 of 8 images: i1\.png, .*, i5\.png and 2 more; add"):
        datalist(tmp_path)


def test_a_label_without_image_is_named(tmp_path):
    make(tmp_path, "images/a.png", "labels/a.png", "labels/b.png")
    with pytest.raises(ValueError, match=r"lacks the images of 1 of 2 labels: b\.png"):
        datalist(tmp_path)


def test_two_images_of_one_name_are_named(tmp_path):
    make(tmp_path, "images/a.png", "images/a.nii.gz", "labels/a.png")
    with pytest.raises(ValueError, match=r"holds both a\.nii\.gz and a\.png"):
        datalist(tmp_path)


def test_images_without_labels_are_listed_where_none_are_required(tmp_path):
    make(tmp_path, "images/a.png", "images/b.png")
    pairs = datalist(tmp_path, require_labels=False) + datalist(tmp_path, "validation", require_labels=False)
    assert sorted(names(pairs, tmp_path)) == [("images/a.png",), ("images/b.png",)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"section": "train"}, "section must be one of 'training', 'validation', 'test', got 'train'"),
        ({"truth": "gold"}, r"truth must be one of 'GT', 'ST', 'GT\+ST', got 'gold'"),
        ({"validation_fraction": 0}, "validation_fraction must lie between 0 and 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        datalist(tmp_path, **arguments)


@pytest.mark.parametrize("layout", ["images", "01", "."])
def test_only_two_layouts_have_a_test_section(tmp_path, layout):
    make(tmp_path, f"{layout}/t000.tif", "labels/final/t000.tif")
    with pytest.raises(FileNotFoundError, match=r"no section 'test'.*image_files"):
        datalist(tmp_path, "test")


# --- images to predict ----------------------------------------------------------------------------------------------


def test_the_images_to_predict_are_those_of_the_folder_or_the_file(tmp_path):
    make(tmp_path, "b.tif", "a.nii.gz", "notes.txt", ".hidden.png", "sub/c.png", ".git/d.png")
    assert image_files(tmp_path) == [str(tmp_path / "a.nii.gz"), str(tmp_path / "b.tif")]
    assert image_files(tmp_path, recursive=True) == [
        str(tmp_path / name) for name in ("a.nii.gz", "b.tif", "sub/c.png")
    ]
    assert image_files(tmp_path / "b.tif") == [str(tmp_path / "b.tif")]


def test_a_relative_path_becomes_absolute(tmp_path, monkeypatch):
    make(tmp_path, "here/a.png")
    monkeypatch.chdir(tmp_path)
    assert image_files("here") == [str(tmp_path / "here" / "a.png")]


@pytest.mark.parametrize(
    ("path", "recursive", "error", "message"),
    [
        ("nowhere", False, FileNotFoundError, "no file or folder .*nowhere"),
        ("empty", False, FileNotFoundError, "folder .*empty holds no image"),
        ("empty", True, FileNotFoundError, "folder .*empty and those below hold no image"),
        ("empty/notes.txt", False, ValueError, r"notes\.txt is not an image file by its suffix"),
        ("twins", False, ValueError, r"both a\.png and a\.tif"),
        (".", True, ValueError, r"both a\.png and a\.tif"),
    ],
)
def test_what_cannot_be_predicted_is_named(tmp_path, path, recursive, error, message):
    make(tmp_path, "empty/notes.txt", "twins/a.png", "twins/a.tif")
    with pytest.raises(error, match=message):
        image_files(tmp_path / path, recursive=recursive)


# --- real data ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "training", "validation"),
    [
        ("isbi2012", 20, 4),
        ("DIC-C2DH-HeLa", 7, 2),
        ("Task04_Hippocampus", 160, 40),
        ("BBBC039", 48, 16),
        ("Usiigaci", 18, 5),
    ],
)
def test_real_data_sets_are_recognised(folder, training, validation):
    if not (SHARED / folder).is_dir():
        pytest.skip(f"the data set {folder} is not on this machine (looked in {SHARED})")
    lists = [datalist(SHARED / folder, section) for section in ("training", "validation")]
    assert [len(pairs) for pairs in lists] == [training, validation]
    assert all(Path(path).is_file() for pairs in lists for pair in pairs for path in pair.values())
