"""Metrics on label images: arrays in, numbers out."""

from overtile.metrics.dice import class_dice
from overtile.metrics.instances import InstanceScores, instance_scores
from overtile.metrics.overlap import OverlapTable, overlap_table

__all__ = ["InstanceScores", "OverlapTable", "class_dice", "instance_scores", "overlap_table"]
