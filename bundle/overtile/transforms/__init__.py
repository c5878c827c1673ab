"""Transforms: array functions and their MONAI forms, usable in any bundle."""

from overtile.transforms.class_labels import ClassWeightsd, balanced_weights, class_indices
from overtile.transforms.crf import DenseCRFd, dense_crf
from overtile.transforms.elastic import RandElasticDeform, RandElasticDeformd
from overtile.transforms.gap import separated_instances
from overtile.transforms.histogram_shift import RandHistogramShift, RandHistogramShiftd
from overtile.transforms.instances import LabelInstances, LabelInstancesd, label_instances
from overtile.transforms.sparse import KeepSlices, KeepSlicesd
from overtile.transforms.unannotated import IgnoreUnannotatedd, ignore_unannotated
from overtile.transforms.weight_map import (
    SeparationWeights,
    SeparationWeightsd,
    separation_weights,
    separation_weights_2019,
)

__all__ = [
    "ClassWeightsd",
    "DenseCRFd",
    "IgnoreUnannotatedd",
    "KeepSlices",
    "KeepSlicesd",
    "LabelInstances",
    "LabelInstancesd",
    "RandElasticDeform",
    "RandElasticDeformd",
    "RandHistogramShift",
    "RandHistogramShiftd",
    "SeparationWeights",
    "SeparationWeightsd",
    "balanced_weights",
    "class_indices",
    "dense_crf",
    "ignore_unannotated",
    "label_instances",
    "separated_instances",
    "separation_weights",
    "separation_weights_2019",
]
