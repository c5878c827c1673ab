"""The bundle's config files: their form, as MONAI and MONAI Label need it, and that every one of them runs."""

import json
import re
import shutil
import traceback
from pathlib import Path
from pydoc import locate

import ignite.distributed as idist
import monai.bundle
import numpy as np
import pytest
import torch
import torch.distributed as dist
import yaml
from monai.bundle import ConfigComponent, ConfigParser
from monai.data import MetaTensor
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import CheckpointLoader
from monai.transforms import ToDeviced

import overtile
from overtile.data import sample_folder
from overtile.geometry import Geometry
from overtile.networks import UNet

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"
FILES = sorted(
    file.relative_to(CONFIGS).as_posix() for pattern in ("*.json", "*.yaml") for file in CONFIGS.rglob(pattern)
)
RUNNABLE = [name for name in FILES if name not in {"metadata.json", "mlflow.yaml"}]
SCHEMA = ROOT.parent / "shared" / "data" / "monai_schema" / "meta_schema_20240725.json"
SCHEMA_MD5 = "06954cad2cc5d3784e72077ac76f0fc8"

VOLUME = {"dataset_dir": sample_folder(3), "output_size": 12, "steps_per_epoch": 1, "max_epochs": 1}
OVERLAYS = [
    pytest.param(("train.json",), {}, id="2D"),
    pytest.param(("train.json", "quick.yaml"), {}, id="quick"),
    pytest.param(("train.json", "gpu.yaml"), {}, id="GPU"),
    pytest.param(("train.json", "3d.yaml"), VOLUME, id="3D"),
    pytest.param(("train.json", "3d.yaml", "gpu.yaml"), VOLUME, id="3D GPU"),
    pytest.param(("train.json", "3d.yaml", "quick_3d.yaml"), VOLUME, id="quick 3D"),
]


def read(name):
    """A config file as it is written: JSON or YAML, without MONAI."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    return json.loads(text) if name.endswith(".json") else yaml.safe_load(text)


def nodes(content, path=""):
    """Everything in a nested config, with its place."""
    yield path, content
    if isinstance(content, dict):
        for key, value in content.items():
            yield from nodes(value, f"{path}/{key}")
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from nodes(value, f"{path}/{index}")


def strings(name):
    return [(path, node) for path, node in nodes(read(name)) if isinstance(node, str)]


@pytest.fixture
def one_process(tmp_path):
    """A process group of this process alone, as torchrun would start it."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    idist.set_local_rank(0)
    yield
    idist.finalize()  # not torch's own: Ignite would go on believing in it


@pytest.mark.parametrize("name", FILES)
def test_no_string_holds_a_hash_sign_since_monai_replaces_it(name):
    assert [found for found in strings(name) if "#" in found[1]] == []


@pytest.mark.parametrize("name", FILES)
def test_every_number_is_a_number_and_not_a_string_that_looks_like_one(name):
    number = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")  # YAML reads 1e-3 as a string
    assert [found for found in strings(name) if number.fullmatch(found[1])] == []


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_target_can_be_found(name):
    for path, node in nodes(read(name)):
        if isinstance(node, dict) and "_target_" in node:
            target = ConfigComponent(config={"_target_": node["_target_"]}).resolve_module_name()
            assert callable(locate(target)), f"{path}: {target}"


@pytest.mark.parametrize("name", RUNNABLE)
def test_every_handler_is_a_dictionary_with_a_target(name):
    """MONAI looks for a validation by ``_target_``, and MONAI Label puts a handler of its own before the others."""
    for path, node in nodes(read(name)):
        if path.endswith(("/handlers", "#handlers")):
            assert isinstance(node, list)
            assert all(isinstance(handler, dict) and "_target_" in handler for handler in node), path


@pytest.mark.parametrize(
    ("name", "run_id"), [("train.json", "training"), ("evaluate.json", "evaluating"), ("inference.json", "inferring")]
)
def test_a_second_name_of_a_run_is_a_reference_or_it_would_run_twice(name, run_id):
    assert read(name)[run_id] == "@run"


def test_configs_that_others_look_for_by_name_are_json_and_load_the_package_first():
    for name in ("train.json", "inference.json"):
        content = read(name)
        assert "$import scripts" in content["imports"]
        assert [step["_target_"] for step in content["initialize"]] == ["monai.utils.set_determinism"]


def test_no_config_reads_another_file_by_a_path_that_depends_on_the_working_folder():
    for name in RUNNABLE:
        assert [text for _, text in strings(name) if re.match(r"%.*\.(json|ya?ml)", text)] == []


def test_inference_has_the_network_of_the_training():
    train, inference = read("train.json"), read("inference.json")
    assert inference["network_def"] == train["network_def"]
    assert inference["geometry"] == train["geometry"]
    shared = {name for name, value in train.items() if name in inference and not isinstance(value, dict | list)}
    own = {"_desc_", "dataset_dir", "output_dir", "num_workers"}
    assert shared >= {"levels", "features", "padding", "norm", "up_relu", "threshold", "min_size", "averaging"}
    for name in shared - own:
        assert inference[name] == train[name], name


def test_a_training_keeps_with_its_weights_every_option_that_inference_needs():
    train, inference = read("train.json"), read("inference.json")
    of_the_run = {"_desc_", "averaging", "memory_limit", "progress", "ckpt_dir", "output_dir", "network"}
    shared = {name for name, value in train.items() if name in inference and not isinstance(value, dict | list)}
    assert train["inference_options"] == {name: f"@{name}" for name in train if name in shared - of_the_run}


def test_what_a_training_leaves_is_all_that_inference_needs(workflow, tmp_path, cells):
    workflow("train.json", "quick.yaml", min_size=33).run()
    overlay = tmp_path / "models" / "model.yaml"
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "inference.json"), str(overlay)])
    parser["ckpt_dir"] = str(tmp_path / "models")
    parser.get_parsed_content("handlers")[0]()  # loads the weights
    assert parser["norm"] == "batch"
    assert parser["min_size"] == 33


def test_inference_normalises_images_as_the_training_does():
    train, (load, shrink, normalize) = read("train.json"), read("inference.json")["preprocessing"]["transforms"]
    assert train["shrink"] == shrink
    label_keys = {"label_keys": train["load"]["label_keys"]}
    assert {**train["load"], "keys": "image"} == {**load, **label_keys}
    assert {**train["normalize"], "keys": "image"} == normalize


def test_the_default_network_is_the_one_of_2015():
    parser = ConfigParser(read("inference.json"))
    network = parser.get_parsed_content("network_def")
    assert isinstance(network, UNet)
    assert sum(parameter.numel() for parameter in network.parameters()) == 31_030_658


def check_training(run, folder, epochs):
    """Runs a training that must have every property, and looks at what it leaves."""
    assert run.check_properties() == []
    run.run()
    assert torch.load(folder / "models" / "last.ckpt", weights_only=True)["epoch"] == epochs
    weights = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert all(isinstance(weight, torch.Tensor) for weight in weights.values())
    assert not [name for name in weights if name.startswith("module.")]
    assert list((folder / "output" / "tensorboard").iterdir())


@pytest.mark.parametrize(("configs", "settings"), OVERLAYS)
def test_training_has_every_property_that_monai_asks_for_and_runs(workflow, tmp_path, configs, settings):
    check_training(workflow(*configs, **settings), tmp_path, settings.get("max_epochs", 2))


def test_training_in_several_processes_has_every_property_too(workflow, tmp_path, one_process):
    check_training(workflow("train.json", "multi_gpu_train.yaml"), tmp_path, 2)


def test_inference_has_every_property_that_monai_asks_for(workflow, tmp_path, cells):
    folder = cells / "validation" / "images"
    run = workflow("inference.json", workflow_type="infer", dataset_dir=str(folder))
    (tmp_path / "models").mkdir()
    torch.save(UNet(levels=1, features=2).state_dict(), tmp_path / "models" / "model.pt")
    assert run.check_properties() == []


@pytest.mark.parametrize("run_id", ["run", "training", ""])
def test_a_training_trains_once_under_every_name_that_clients_send(workflow, monkeypatch, run_id):
    runs = []
    trains = SupervisedTrainer.run
    monkeypatch.setattr(SupervisedTrainer, "run", lambda trainer: (runs.append(trainer), trains(trainer)))
    workflow("train.json", run_id=run_id).run()  # "": 3D Slicer, through MONAI Label, asks for the whole config
    assert len(runs) == 1
    assert runs[0].state.iteration == 4


@pytest.mark.parametrize("run_id", ["run", "evaluating", ""])
def test_an_evaluation_evaluates_once_and_reports(workflow, monkeypatch, tmp_path, run_id):
    workflow("train.json").run()
    runs = []
    evaluates = SupervisedEvaluator.run
    monkeypatch.setattr(SupervisedEvaluator, "run", lambda engine: (runs.append(engine), evaluates(engine)))
    workflow("train.json", "evaluate.json", run_id=run_id).run()
    assert len(runs) == 1
    written = json.loads((tmp_path / "output" / "scores.json").read_text())
    assert written["scores"].keys() == {"val_f1"}
    assert [Path(image["image"]).name for image in written["images"]] == ["held_out.tif"]
    assert all(Path(image["picture"]).is_file() for image in written["images"])


def test_an_evaluation_scores_the_best_weights(workflow, tmp_path):
    workflow("train.json", max_epochs=4, learning_rate=0.01).run()
    best = torch.load(tmp_path / "models" / "last.ckpt", weights_only=True)["best_metric"]
    workflow("train.json", "evaluate.json").run()
    assert json.loads((tmp_path / "output" / "scores.json").read_text())["scores"]["val_f1"] == best


def test_the_learning_rate_falls_over_the_epochs_that_a_client_asks_the_trainer_for(workflow, tmp_path):
    """MONAI Label sets the trainer's ``max_epochs``, not the one at the top of the config."""
    workflow("train.json", max_epochs=100, **{"train#trainer#max_epochs": 2}).run()
    state = torch.load(tmp_path / "models" / "last.ckpt", weights_only=True)
    assert state["epoch"] == 2
    assert state["optimizer"]["param_groups"][0]["lr"] == 0


def test_a_training_takes_what_monai_label_hands_it(workflow, tmp_path, cells):
    """Its own lists of files, device as a string, and a CheckpointLoader before the other handlers."""
    workflow("train.json").run()

    def pairs(section):
        folder = cells / section
        return [
            {"image": str(f), "label": str(folder / "labels" / f.name)} for f in sorted((folder / "images").iterdir())
        ]

    loader = {
        "_target_": CheckpointLoader.__name__,
        "load_path": str(tmp_path / "models" / "model.pt"),
        "load_dict": {"model": "$@network"},
        "strict": False,
    }
    overrides = {
        "train#dataset#data": pairs("training")[:1],
        "validate#dataset#data": pairs("validation"),
        "train#trainer#max_epochs": 1,
        "train#handlers": [loader, *read("train.json")["train"]["handlers"]],
        "dataset_dir": "/is/not/there",  # an unused list of files is evaluated all the same with run_id ""
    }
    run = workflow("train.json", run_id="run", ckpt_dir=str(tmp_path / "again"), **overrides)
    run.run()
    assert (tmp_path / "again" / "model.pt").is_file()
    assert len(run.parser.get_parsed_content("train::dataset")) == 1


def test_an_answer_for_monai_label_is_a_2d_map_of_whole_numbers(workflow, cells):
    """MONAI Label runs these steps itself and leaves out the saving."""
    run = workflow("inference.json", workflow_type="infer")
    get = run.parser.get_parsed_content
    steps = [step for step in get("postprocessing").transforms if type(step).__name__ != "SaveImaged"]
    item = get("preprocessing")({"image": str(cells / "validation" / "images" / "held_out.tif")})
    item["pred"] = get("inferer")(item["image"][None], get("network_def").eval())[0]
    for step in steps:
        item = step(item)
    assert tuple(item["pred"].shape) == (48, 40)
    assert item["pred"].dtype == torch.uint16


@pytest.mark.skipif(not SCHEMA.is_file(), reason=f"needs MONAI's schema of metadata.json at {SCHEMA}")
def test_the_metadata_fits_monais_schema(tmp_path):
    schema = shutil.copy(SCHEMA, tmp_path / "schema.json")  # found there, it is not downloaded
    monai.bundle.verify_metadata(str(CONFIGS / "metadata.json"), filepath=str(schema), hash_val=SCHEMA_MD5)


def test_the_metadata_states_the_versions_of_the_package_and_of_the_tested_environment():
    metadata = read("metadata.json")
    assert metadata["version"] == overtile.__version__
    assert metadata["version"] in metadata["changelog"]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    assert metadata["monai_version"] == tested["monai"]
    assert metadata["pytorch_version"] == tested["torch"]
    assert metadata["numpy_version"] == tested["numpy"]
    for package, version in metadata["required_packages_version"].items():
        assert version == tested[package], package


@pytest.mark.parametrize("n", [1, 2, 25])
def test_the_declared_input_is_legal_for_the_network_and_gives_the_declared_output(n):
    formats = read("metadata.json")["network_data_format"]
    inputs, outputs = formats["inputs"]["image"]["spatial_shape"], formats["outputs"]["pred"]["spatial_shape"]
    geometry = Geometry(levels=read("inference.json")["levels"])
    for given, answered in zip(inputs, outputs, strict=True):
        size = eval(given, {"n": n})
        assert geometry.is_legal_input(size)
        assert geometry.output_size(size) == eval(answered, {"n": n})


def test_the_declared_channels_are_those_of_the_network():
    formats, inference = read("metadata.json")["network_data_format"], read("inference.json")
    for declared, channels in (
        (formats["inputs"]["image"], "in_channels"),
        (formats["outputs"]["pred"], "out_channels"),
    ):
        assert declared["num_channels"] == len(declared["channel_def"]) == inference[channels]
    assert next(iter(formats["outputs"])) == "pred"  # the first output, where MONAI Label looks for class names
    assert len(formats["inputs"]["image"]["spatial_shape"]) == inference["spatial_dims"]


@pytest.mark.parametrize("name", ["inference.json", "train.json"])
def test_a_network_takes_and_gives_what_the_metadata_declares(name):
    arguments = {"meta_file": str(CONFIGS / "metadata.json"), "config_file": str(CONFIGS / name), "device": "cpu"}
    monai.bundle.verify_net_in_out("network_def", **arguments, p=1, n=1, any=1, features=4)


def test_the_best_weights_export_to_torchscript_as_the_model_card_says(tmp_path):
    torch.save(UNet(levels=1, features=2).state_dict(), tmp_path / "model.pt")
    monai.bundle.ckpt_export(
        "network_def",
        filepath=str(tmp_path / "model.ts"),
        ckpt_file=str(tmp_path / "model.pt"),
        meta_file=str(CONFIGS / "metadata.json"),
        config_file=str(CONFIGS / "inference.json"),
        levels=1,
        features=2,
    )
    exported = torch.jit.load(tmp_path / "model.ts")
    network = UNet(levels=1, features=2).eval()
    network.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    image = torch.rand(1, 1, 28, 36)
    torch.testing.assert_close(exported(image), network(image))


@pytest.mark.parametrize(
    ("configs", "overrides", "message"),
    [
        pytest.param(("inference.json",), {"ckpt_dir": "/no/such"}, "/no/such/model.pt", id="no checkpoint"),
        pytest.param(("inference.json",), {"dataset_dir": "/no/such"}, "no file or folder /no/such", id="no images"),
        pytest.param(("train.json",), {"dataset_dir": "/no/such"}, "folder /no/such does not exist", id="no data set"),
        pytest.param(("train.json", "evaluate.json"), {}, "models/model.pt", id="evaluation before training"),
        pytest.param(("train.json",), {"instances": "maybe"}, "true or false, got 'maybe'", id="neither yes nor no"),
    ],
)
def test_what_is_missing_or_wrong_is_named(workflow, cells, configs, overrides, message):
    if configs == ("inference.json",):
        overrides = {"dataset_dir": str(cells / "validation" / "images"), **overrides}
    run = workflow(*configs, **overrides)
    with pytest.raises(Exception) as caught:  # noqa: PT011 - MONAI wraps what goes wrong in a component of a config
        run.run()
    assert message in "".join(traceback.format_exception(caught.value))


def test_a_label_that_is_missing_is_named(workflow, cells, tmp_path):
    data = shutil.copytree(cells, tmp_path / "data")
    (data / "training" / "labels" / "two.tif").unlink()
    run = workflow("train.json", dataset_dir=str(data))
    with pytest.raises(RuntimeError) as caught:
        run.run()
    assert re.search(r"label.*\btwo\b", "".join(traceback.format_exception(caught.value)))


def post_processed(made, classes):
    """What the workflow's post-processing makes of certain class indices."""
    logits = 20.0 * torch.nn.functional.one_hot(torch.tensor(classes), 3).permute(2, 0, 1)
    done = made.parser.get_parsed_content("validate::postprocessing")({"pred": MetaTensor(logits)})
    return done["pred"][0].long().tolist()


def test_islands_and_holes_of_class_maps_go_by_option(workflow):
    """A block of class 1 with a hole, and two pixels of class 2 in the background and two in the block."""
    classes = np.zeros((8, 9), int)
    classes[1:7, 1:7] = 1
    classes[2, 2] = 0
    classes[4, 3:5] = classes[3:5, 8] = 2
    plain = workflow("train.json", instances=False, out_channels=3)
    assert post_processed(plain, classes) == classes.tolist()
    cleaned = np.zeros_like(classes)
    cleaned[1:7, 1:7] = 1
    options = {"min_island": 3, "fill_holes": True}
    assert (
        post_processed(workflow("train.json", instances=False, out_channels=3, **options), classes) == cleaned.tolist()
    )


def test_the_dense_crf_is_one_option_away(workflow, tmp_path):
    pytest.importorskip("pydensecrf")
    workflow("train.json", max_epochs=1).run()
    workflow("train.json", "evaluate.json", crf="true").run()
    assert (tmp_path / "output" / "report.html").is_file()


def test_on_a_gpu_convolutions_are_in_bfloat16_and_images_deformed_there():
    parser = ConfigParser()
    parser.read_config([str(CONFIGS / "train.json"), str(CONFIGS / "gpu.yaml")])
    parser.update({"device": torch.device("cuda"), "scale": 1})
    assert parser.get_parsed_content("on_gpu") is True
    assert parser.get_parsed_content("train#trainer#amp", instantiate=True) is True
    assert parser.get_parsed_content("train#trainer#amp_kwargs") == {"dtype": torch.bfloat16}
    *_, last = parser.get_parsed_content("train#deterministic_transforms")
    assert isinstance(last, ToDeviced)
    assert last.converter.device == torch.device("cuda")
    assert (
        len(parser["train#deterministic_transforms"])
        == len(read("train.json")["train"]["deterministic_transforms"]) + 1
    )
