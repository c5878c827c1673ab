"""MLflow runs of a training and an evaluation, read back with MLflow's own client."""

import json
import os
import subprocess
import sys
from pathlib import Path
from pydoc import locate

import pytest
import yaml
from ignite.engine import Events
from monai.bundle import ConfigComponent

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = ROOT / "configs" / "mlflow.yaml"
OPTIONS = {"levels": 1, "features": 2, "output_size": 20, "steps_per_epoch": 2, "max_epochs": 2, "val_interval": 1}
NOT_PARAMETERS = {  # where files are, what is shown, and what only a part of a training is told
    "_desc_", "bundle_root", "output_dir", "experiment", "resume", "progress", "first_process", "training",
}  # fmt: skip


@pytest.fixture(scope="module")
def mlflow():
    return pytest.importorskip("mlflow", reason="needs MLflow: pip install mlflow")


@pytest.fixture
def runs(mlflow, tmp_path):
    """All MLflow runs that have been written to ``tmp_path``, the oldest first, and a client to ask about them."""

    def read(folder="output"):
        client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / folder / 'mlruns.db'}")
        experiment = client.get_experiment_by_name("overtile")
        return client.search_runs(experiment.experiment_id, order_by=["attributes.start_time ASC"]), client

    return read


def settings():
    return yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))


def options():
    """The options at the top of the training's config: all that is one value."""
    content = json.loads((ROOT / "configs" / "train.json").read_text(encoding="utf-8"))
    single = {name for name, value in content.items() if not isinstance(value, dict | list)}
    return {name for name in single if not str(content[name]).startswith(("$@network", "$@train"))} | {"dataset_dir"}


def history(client, run, metric):
    return [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, metric)]


def test_every_option_of_a_training_is_a_parameter_under_its_own_name():
    parameters = settings()["configs"]["parameters"]
    assert parameters == {name: f"@{name}" for name in parameters}
    assert parameters.keys() == options() - NOT_PARAMETERS


def test_the_parameters_of_an_evaluation_are_a_part_of_those_of_the_training():
    """Its validations log them too, and MLflow refuses another value for a parameter."""
    content = json.loads((ROOT / "configs" / "train.json").read_text(encoding="utf-8"))
    parameters = settings()["configs"]["parameters"]
    assert content["inference_options"].items() <= parameters.items()
    assert settings()["configs"]["evaluated"].items() <= parameters.items()


def test_every_target_of_the_settings_can_be_found():
    handlers = [settings()["configs"][name] for name in ("trainer", "validator")]
    for node in (*handlers, handlers[0]["output_transform"], settings()["configs"]["started"]):
        target = ConfigComponent(config={"_target_": node["_target_"]}).resolve_module_name()
        assert callable(locate(target)), target


@pytest.mark.slow
def test_the_command_line_tracks_a_training_and_its_evaluation(runs, tmp_path, cells):
    """From a folder that is not the bundle's."""
    train, evaluate = (str(ROOT / "configs" / name) for name in ("train.json", "evaluate.json"))
    places = {"dataset_dir": cells, "ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "output"}
    given = [part for name, value in {**OPTIONS, **places}.items() for part in (f"--{name}", str(value))]
    for run_id, configs in {"training": [train], "evaluating": [train, evaluate]}.items():
        command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", run_id, "--config_file", str(configs)]
        done = subprocess.run(
            [*command, *given, "--tracking", str(SETTINGS)],
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    (training, evaluation), client = runs()
    assert training.info.run_name.startswith("training 2")
    assert evaluation.info.run_name.startswith("evaluation 2")
    for run in (training, evaluation):
        assert run.info.status == "FINISHED"
        shared = {"levels": "1", "features": "2", "min_size": "10", "dataset_dir": str(cells)}
        assert shared.items() <= run.data.params.items()
    assert {name: str(value) for name, value in OPTIONS.items()}.items() <= training.data.params.items()
    assert "learning_rate" not in evaluation.data.params
    assert training.data.metrics.keys() == {"train_loss", "lr_group_0", "val_f1"}
    assert [step for step, _ in history(client, training, "train_loss")] == [1, 2, 3, 4]
    assert [step for step, _ in history(client, training, "val_f1")] == [1, 2]
    assert history(client, training, "lr_group_0")[0] == (1, 0.0002)
    assert client.list_artifacts(training.info.run_id) == []

    scores = json.loads((tmp_path / "output" / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert evaluation.data.metrics == scores
    artifacts = [artifact.path for artifact in client.list_artifacts(evaluation.info.run_id)]
    assert artifacts == ["report.html", "scores.csv", "scores.json"]
    for name in artifacts:
        copy = client.download_artifacts(evaluation.info.run_id, name, str(tmp_path))
        assert Path(copy).read_bytes() == (tmp_path / "output" / name).read_bytes()


def test_a_run_that_was_interrupted_is_left_alone_by_the_next_with_other_options(workflow, runs):
    interrupted = workflow("train.json", tracking=str(SETTINGS), run_name="first")
    trainer = interrupted.parser.get_parsed_content("train::trainer")

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def interrupt(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    workflow("train.json", tracking=str(SETTINGS), momentum=0.5).run()
    (first, second), _ = runs()
    assert (first.info.status, second.info.status) == ("RUNNING", "FINISHED")
    assert (first.data.params["momentum"], second.data.params["momentum"]) == ("0.99", "0.5")


def test_a_resumed_training_goes_on_with_the_run_of_its_name(workflow, runs):
    named = {"tracking": str(SETTINGS), "run_name": "cells", "max_epochs": 4}
    interrupted = workflow("train.json", **named)
    trainer = interrupted.parser.get_parsed_content("train::trainer")

    @trainer.on(Events.EPOCH_STARTED(once=3))
    def interrupt(engine):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    workflow("train.json", resume="true", **named).run()
    (run,), client = runs()
    assert run.info.status == "FINISHED"
    assert [step for step, _ in history(client, run, "val_f1")] == [1, 2, 3, 4]


def test_all_scores_of_an_evaluation_are_metrics(workflow, runs, tmp_path):
    workflow("train.json").run()
    more = {
        "val_ap": {
            "_target_": "overtile.engines.AveragePrecision",
            "output_transform": "@pred_and_label",
        }
    }
    workflow("train.json", "evaluate.json", tracking=str(SETTINGS), additional_metrics=more).run()
    (run,), _ = runs()
    scores = json.loads((tmp_path / "output" / "scores.json").read_text(encoding="utf-8"))["scores"]
    assert scores.keys() == {"val_f1", "val_ap"}
    assert run.data.metrics == scores


def test_of_several_processes_only_the_first_writes(workflow, runs, tmp_path):
    workflow("train.json", tracking=str(SETTINGS), other_process=True, max_epochs=1).run()
    assert not (tmp_path / "output" / "mlruns.db").exists()
    workflow("train.json", tracking=str(SETTINGS), max_epochs=1).run()
    assert len(runs()[0]) == 1
