"""Scores of a segmentation: arrays in, numbers out."""

from overtile.metrics.instances import InstanceScores, instance_scores
from overtile.metrics.overlap import OverlapTable, overlap_table

__all__ = ["InstanceScores", "OverlapTable", "instance_scores", "overlap_table"]
