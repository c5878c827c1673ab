"""What ``scripts/label.py`` says where it cannot start; these need no MONAI Label, but where said."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

LABEL = Path(__file__).resolve().parents[2] / "scripts" / "label.py"


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("L", (40, 30)).save(folder / "a.png")
    return folder


def message(*command, python=sys.executable):
    done = subprocess.run([python, LABEL, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    return done.stderr


def test_a_folder_that_is_not_there_is_named(tmp_path):
    assert f"{tmp_path / 'none'} does not exist" in message(tmp_path / "none")


def test_a_folder_without_images_is_told_what_images_are(tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "deeper").mkdir()
    assert f"{tmp_path} holds no image; MONAI Label takes .png .tif" in message(tmp_path)


def test_without_monai_label_it_says_how_to_install_it(images):
    said = message(images)
    assert "pip install -r constraints-label.txt" in said
    assert list(images.iterdir()) == [images / "a.png"]


@pytest.mark.slow
def test_a_port_in_use_is_named(images, label_python):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port} cannot be used" in message(images, "--port", port, python=label_python)


@pytest.mark.slow
def test_weights_of_another_network_are_refused_and_no_bundle_is_made_of_them(images, label_python, tmp_path):
    import torch

    from overtile.networks import UNet

    torch.save(UNet(levels=1, features=2).state_dict(), tmp_path / "model.pt")
    said = message(images, "--weights", tmp_path / "model.pt", python=label_python)
    assert "holds the weights of another network" in said
    assert not list((images / "monailabel").glob("model/*"))


@pytest.mark.slow
def test_volumes_ask_for_a_3d_network(images, label_python):
    (images / "a.png").rename(images / "a.nii.gz")
    assert "holds volumes: add --config_file configs/3d.yaml" in message(images, python=label_python)


@pytest.mark.slow
def test_a_missing_overlay_is_named(images, label_python):
    assert "configs/4d.yaml does not exist" in message(images, "--config_file", "configs/4d.yaml", python=label_python)
