"""Why a row misses its target, in words that the table shows beneath; written by hand after a run."""

REASONS: dict[str, str] = {  # row name -> reason
    "A1": "not yet: of 6.3 ms PyTorch's bilinear sampling takes about 1.0 for each of two images, the label 1.7, new "
    "memory for the results 1.4 and MONAI's book-keeping 0.9.",
    "A2": "not yet, for the same reasons. `RandGridDistortiond` and albumentations' approximate mode do less: the one "
    "deforms each axis by itself, the other filters a noise image once and samples by OpenCV.",
    "A3": "not yet: fused code would gather and interpolate in one pass, PyTorch passes over each slab many times.",
    "B1": "not yet: with 20 cells a few transforms of ours (1.7 ms each) and the exponential stand against 20 of "
    "SciPy's, which took from 160 to 230 ms on this machine.",
    "E1": "not yet: 3.9 ms of 8.4 are the bundle's intensity transforms, which all sides have; without them the ratio "
    "to `RandGridDistortiond` with `RandAffined` would be about 6.4 (arithmetic).",
    "E2": "separation weights: where more cells lie within reach of each other more distance transforms are needed, "
    "3 for 10 cells and 6 or 7 for 2,000, and numbering takes 7 µs a cell; a transform per cell would grow 200 times. "
    "At 4096² the work probably no longer fits into the second-level cache.",
}
