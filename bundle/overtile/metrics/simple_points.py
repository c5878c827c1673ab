"""Pixels that may change sides without changing topology, cells 4-connected and membrane 8-connected.

``RING`` and ``BRANCHES`` read a pixel's eight neighbours as one byte, bit i for neighbour i of the circle.
"""

from heapq import heappop, heappush

import numpy as np
import numpy.typing as npt

RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _connectivity_numbers() -> npt.NDArray[np.uint8]:
    """Yokoi's ``sum_k x_k - x_k x_(k+1) x_(k+2)`` over the four side neighbours k, of all 256 neighbourhoods."""
    ring = (np.arange(256)[:, None] >> np.arange(8)) & 1
    sides = ring * (1 - np.roll(ring, -1, axis=1) * np.roll(ring, -2, axis=1))
    numbers: npt.NDArray[np.uint8] = sides[:, ::2].sum(axis=1).astype(np.uint8)
    return numbers


# How many separate branches of cells meet in a pixel, 0 for a pixel alone or within a cell. Where it is 1 the pixel
# is simple (Yokoi, Toriwaki and Fukumura 1975, doi:10.1016/0146-664X(75)90030-8).
BRANCHES = _connectivity_numbers()


def ring_codes(cells: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """The neighbours of every pixel of a slice (H, W) as one byte each; there are no cells outside."""
    height, width = cells.shape
    padded = np.pad(cells, 1)
    codes = np.zeros(cells.shape, dtype=np.uint8)
    for bit, (row, column) in enumerate(RING):
        neighbours = padded[1 + row : 1 + row + height, 1 + column : 1 + column + width]
        codes |= neighbours.astype(np.uint8) << np.uint8(bit)
    return codes


def warped_cells(
    cells: npt.NDArray[np.bool_], target: npt.NDArray[np.bool_], certainty: npt.NDArray[np.float32]
) -> npt.NDArray[np.bool_]:
    """The cells moved towards the target as far as flipping simple pixels alone can.

    Passes over the pixels that differ from the target, the most certain first, equal ones column by column, flip
    each that is simple when its turn comes, until a pass flips none: the order of Fiji's ``simplePointWarp2d``.
    Here a pixel waits for a turn only while it is simple, so that each costs once and not once per pass.

    Args:
        cells: what to warp (H, W).
        target: what to warp it to (H, W).
        certainty: of the target's pixels (H, W).

    Examples:
        >>> line, shifted = np.eye(5, dtype=bool)[1:3]
        >>> warped_cells(np.tile(line, (3, 1)), np.tile(shifted, (3, 1)), np.ones((3, 5), np.float32)).astype(int)
        array([[0, 0, 1, 0, 0],
               [0, 0, 1, 0, 0],
               [0, 0, 1, 0, 0]])
    """
    source = np.pad(cells.T, 1)
    differs = np.flatnonzero(source != np.pad(target.T, 1))
    pixels = differs[np.argsort(-np.pad(certainty.T, 1).ravel()[differs], kind="stable")].tolist()
    rank = {pixel: place for place, pixel in enumerate(pixels)}
    _flip(pixels, rank, bytearray(ring_codes(source).tobytes()), stride=source.shape[1])
    flipped = np.setdiff1d(differs, list(rank), assume_unique=True)
    source.flat[flipped] = ~source.flat[flipped]
    return source[1:-1, 1:-1].T


def _flip(pixels: list[int], rank: dict[int, int], codes: bytearray, stride: int) -> None:
    """Takes every pixel that can be flipped out of ``rank``; ``codes`` follows.

    Turn ``t`` is the turn of the pixel of rank ``t % len(pixels)`` in pass ``t // len(pixels)``.
    """
    simple = (BRANCHES == 1).tolist()
    steps = [(row * stride + column, 1 << (bit + 4) % 8) for bit, (row, column) in enumerate(RING)]
    turns = [place for place, pixel in enumerate(pixels) if simple[codes[pixel]]]  # sorted, hence a heap
    while turns:
        turn = heappop(turns)
        place = turn % len(pixels)
        pixel = pixels[place]
        if pixel not in rank or not simple[codes[pixel]]:
            continue
        del rank[pixel]
        for step, opposite_bit in steps:
            neighbour = pixel + step
            codes[neighbour] ^= opposite_bit
            if simple[codes[neighbour]] and neighbour in rank:
                ahead = rank[neighbour] - place
                heappush(turns, turn + (ahead if ahead > 0 else ahead + len(pixels)))
