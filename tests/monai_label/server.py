"""A real MONAI Label server, started as a user starts it, and spoken to over REST."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).resolve().parents[2]
NAME = "overtile_segmentation"


class Server:
    """``python scripts/label.py`` in a process of its own, on a free port of this machine."""

    def __init__(self, python, images, *options):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.images = images
        self.log = images.parent / f"server-{self.port}.log"
        self.command = [python, str(ROOT / "scripts" / "label.py"), str(images), "--port", str(self.port), *options]

    def __enter__(self):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment())
        self.wait_for(lambda: self.get("/info/")[0] == 200, 120)
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)

    def wait_for(self, holds, seconds):
        end = time.monotonic() + seconds
        while not holds():
            assert self.process.poll() is None, self.said()[-6000:]
            assert time.monotonic() < end, self.said()[-6000:]
            time.sleep(0.5)

    def said(self):
        return self.log.read_text(errors="replace")

    def get(self, path, **query):
        return self.ask("GET", path, query)

    def ask(self, method, path, query, body=None, kind="application/json"):
        """HTTP status and body."""
        address = f"http://127.0.0.1:{self.port}{path}?{urlencode(query)}"
        request = urllib.request.Request(address, body, {"Content-Type": kind} if body else {}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (urllib.error.URLError, ConnectionError):
            return 0, b""

    def infer(self, image, model=NAME, output="image", **params):
        form, kind = multipart({"params": json.dumps(params).encode()})
        return self.ask("POST", f"/infer/{model}", {"image": image, "output": output}, form, kind)

    def submit(self, image, label_file, content=None):
        """A label, as a viewer submits what an annotator has drawn."""
        form, kind = multipart({"params": b"{}", "label": content or label_file.read_bytes()}, label_file.name)
        return self.ask("PUT", "/datastore/label", {"image": image, "tag": "final"}, form, kind)

    def train(self, model=NAME, **settings):
        """Trains with the parameters that 3D Slicer sends; the status at the end and what the training said."""
        offered = json.loads(self.get("/info/")[1])["trainers"][model]["config"]
        # 3D Slicer sends every setting back, of a list the first item
        sent = {name: value[0] if isinstance(value, list) else value for name, value in offered.items()}
        before = len(self.said())
        status, answer = self.ask("POST", f"/train/{model}", {}, json.dumps({**sent, **settings}).encode())
        assert status == 200, answer
        self.wait_for(lambda: self.training_status() in ("DONE", "ERROR"), 240)
        return self.training_status(), self.said()[before:]

    def training_status(self):
        return json.loads(self.get("/train/")[1])["status"]


def environment():
    """For a server on this machine alone, without a GPU, that finds ``overtile`` in its bundle only."""
    here = Path(__file__).parent / "cpu_torchvision"
    settings = {"PYTHONPATH": str(here), "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return {**os.environ, **settings}


def multipart(fields, file_name=None):
    """A form with one file at most, its last field, and its content type."""
    boundary = uuid.uuid4().hex
    parts = []
    for number, (name, value) in enumerate(fields.items(), start=1):
        file = f'; filename="{file_name}"' if file_name and number == len(fields) else ""
        parts.append(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + value)
    return b"\r\n".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"
