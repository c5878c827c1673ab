"""Side-by-side measurements of this project and its peers: ``python -m benchmarks`` (see docs/performance.md)."""

import os

# One thread, before NumPy, OpenCV and torch are imported: CPU time of one thread is what neighbours disturb least.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
