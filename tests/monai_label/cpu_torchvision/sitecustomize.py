"""For test machines that have PyTorch without CUDA, but PyPI's torchvision, which is built for CUDA.

That torchvision cannot load its C library, so the operator ``torchvision::nms`` is never defined and ``import
torchvision`` raises. MONAI Label needs only ``torchvision.utils``, which is plain Python: it is enough to define the
operators first. Python imports a file of this name by itself where it finds one on PYTHONPATH.
"""

import importlib.abc
import sys


class DefineOperators(importlib.abc.MetaPathFinder):
    """Finds nothing; notices the import of torchvision."""

    library = None

    def find_spec(self, name, path=None, target=None):
        if name == "torchvision":
            sys.meta_path.remove(self)
            import torch

            if torch.version.cuda is None:
                DefineOperators.library = torch.library.Library("torchvision", "DEF")
                for operator in ("nms", "qnms"):
                    DefineOperators.library.define(
                        f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
                    )
        return


if __name__ == "sitecustomize":  # not where doctests are collected
    sys.meta_path.insert(0, DefineOperators())
