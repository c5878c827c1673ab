"""Why a row misses its target, in words that the table shows beneath; written by hand after a run."""

REASONS: dict[str, str] = {  # row name -> reason
    "A3": "each of 2.1 million voxels is read from nine places (eight for the image, one for the label), which takes "
    "PyTorch about 21 of 45 ms; the rest are positions, indices and interpolation. A loop compiled by numba that does "
    "everything at once took 44 ms on this machine (docs/design.md), so faster code would have to read less. In four "
    "runs ours took 44 to 53 ms: 57 to 103 times faster than `Rand3DElasticd`, 11 to 13 than batchgeneratorsv2, 4.5 to "
    "5.5 than `RandGridDistortiond`.",
    "B1": "with 20 cells four transforms of ours take 5.8 ms, each about 90 passes over the image at the speed of the "
    "cache, and the target would leave 6.7 for everything. Both of the peer's parts are fast on this machine: SciPy's "
    "transform (6 ms for one) and NumPy's sort, which uses AVX512. With more cells the ratio grows.",
    "E1": "of 4.8 ms (5.9 in this run) PyTorch's sampling takes 1.6, as OpenCV's `remap` would, positions 0.4, the "
    "intensity transforms 0.7, and MONAI's book-keeping, caches and memory the rest. In five runs the ratio to "
    "`RandGridDistortiond` was 6.5 to 6.9, to batchgeneratorsv2 6.6 to 7.4.",
    "E2": "separation weights: where more cells lie within reach of each other more distance transforms are needed, "
    "3 for 10 cells and 6 or 7 for 2,000, and numbering takes 7 µs a cell; a transform per cell would grow 200 times. "
    "At 4096² the work probably no longer fits into the second-level cache.",
}
