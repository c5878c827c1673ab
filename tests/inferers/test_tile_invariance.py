"""The promise of the overlap-tile inferer: whatever the tiles, the result is that of one pass over the whole image."""

import itertools

import numpy as np
import pytest
import torch

from overtile.inferers import OverlapTileInferer, overlap_tile

# (spatial dims, levels, output sizes, image shapes)
CASES = {
    "2D one level": (2, 1, [1, 3, 16, (9, 30), None], [(1, 1), (2, 7), (17, 16), (40, 50)]),
    "2D two levels": (2, 2, [1, 5, 16, (9, 30), None], [(1, 1), (3, 30), (33, 20), (40, 50)]),
    "2D three levels": (2, 3, [4, 13, 40, None], [(1, 1), (25, 50)]),
    "3D one level": (3, 1, [6, (3, 8, 5), None], [(1, 1, 1), (5, 9, 2), (8, 7, 12)]),
}
PARAMETERS = [
    pytest.param(dims, levels, shape, sizes, id=f"{name} {shape}")
    for name, (dims, levels, sizes, shapes) in CASES.items()
    for shape in shapes
]


@pytest.fixture(autouse=True)
def one_thread():
    """Hundreds of tiny passes: threads would wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def network(random_u_net):
    """With batch norm, where nothing else is said."""
    return lambda *size, **options: random_u_net(*size, **{"norm": "batch", **options})


@torch.no_grad()
def one_pass(net, image, padding="valid"):
    """The whole image in one pass, filled up by NumPy: no tile, nothing of the package's geometry.

    For a valid network it is mirrored once around; a same-padded one has its own padding, and the image is mirrored at
    its far ends only, to a multiple of ``2**levels``.
    """
    step = 2 ** len(net.ups)
    spatial = image.shape[2:]
    if padding == "valid":
        before = 6 * step - 4  # per side, the papers' (12 * 2**L - 8) / 2
        after = [before + (4 * (step - 1) - size - 2 * before) % step for size in spatial]
    else:
        before = 0
        after = [max(-size % step, 2 * step - size) for size in spatial]
    padded = np.pad(image.numpy(), [(0, 0)] * 2 + [(before, a) for a in after], mode="reflect")
    return net(torch.from_numpy(padded))[(..., *(slice(size) for size in spatial))]


def close(result, expected):
    """Equal to the rounding of float32, whose convolutions sum in an order that depends on the tile's shape."""
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.fixture(params=[1e-9, 2e-4, 2e-3], ids=["least memory", "little memory", "more memory"])
def strips(request, monkeypatch):
    """A memory limit of an inferer that streams: the image in strips, and with the least memory in columns too."""
    monkeypatch.setattr(overlap_tile, "WANTED", 500)
    return OverlapTileInferer(memory_limit=request.param)


def passes(inferer, image, net):
    """How often the inferer reads the image."""
    read = []
    windows = overlap_tile.read_mirrored
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            overlap_tile, "read_mirrored", lambda image, window: read.append(window) or windows(image, window)
        )
        return inferer(image, net), read


@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"padding": "same", "padding_mode": "reflect"}], ids=str)
@pytest.mark.parametrize(
    ("dims", "levels", "shape"),
    [(2, 1, (1, 1)), (2, 2, (33, 20)), (2, 3, (25, 150)), (3, 1, (5, 9, 2)), (3, 1, (12, 7, 30))],
    ids=str,
)
def test_a_streamed_image_equals_one_pass(network, dims, levels, shape, options, strips):
    net = network(dims, levels, **options)
    image = torch.randn(2, 2, *shape)
    result, read = passes(strips, image, net)
    close(result, one_pass(net, image, options.get("padding", "valid")))
    assert strips.memory_limit > 1e-9 or max(shape) < 4 or len(read) > 1


@pytest.mark.parametrize("averaging", ["flips", "rotations", "all"])
def test_a_streamed_image_has_the_mean_of_all_views(network, averaging, strips):
    net = network(2, 2)
    image = torch.randn(2, 2, 21, 64)
    answers = [
        back(one_pass(net, torch.from_numpy(there(image.numpy()).copy())).numpy())
        for there, back in numpy_views(averaging, 2)
    ]
    close(
        OverlapTileInferer(memory_limit=strips.memory_limit, averaging=averaging)(image, net),
        torch.from_numpy(np.mean(answers, 0)),
    )


def test_strips_are_read_once_along_the_longest_axis(network, monkeypatch):
    monkeypatch.setattr(overlap_tile, "WANTED", 500)
    net = network(2, 2)
    _, read = passes(OverlapTileInferer(), torch.randn(1, 2, 30, 200), net)
    assert len(read) > 5
    columns = [window[1] for window in read]
    assert columns[0].start == -net.geometry.margin
    assert columns[-1].stop >= 200 + net.geometry.margin
    assert all(before.stop == after.start for before, after in itertools.pairwise(columns))
    assert all(window[0] == slice(-20, 52) for window in read)


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_a_network_that_cannot_be_streamed_is_tiled_in_little_memory(network, norm):
    net = network(2, 1, norm=norm)
    _, read = passes(OverlapTileInferer(memory_limit=1e-9), torch.randn(1, 2, 9, 9), net)
    assert len(read) == 25


@pytest.mark.parametrize(("dims", "levels", "shape", "sizes"), PARAMETERS)
def test_any_tiling_equals_one_pass_of_a_valid_network_over_the_whole_mirrored_image(
    network, dims, levels, shape, sizes
):
    net = network(dims, levels)
    image = torch.randn(2, 2, *shape)
    expected = one_pass(net, image)
    assert expected.std() > 1e-2
    for size in sizes:
        close(OverlapTileInferer(size)(image, net), expected)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect"])
@pytest.mark.parametrize(("dims", "levels", "shape", "sizes"), PARAMETERS)
def test_any_tiling_equals_one_pass_of_a_same_padded_network(network, dims, levels, shape, sizes, padding_mode):
    net = network(dims, levels, padding="same", padding_mode=padding_mode)
    image = torch.randn(1, 2, *shape)
    expected = one_pass(net, image, "same")
    assert expected.std() > 1e-2
    for size in sizes:
        close(OverlapTileInferer(size)(image, net), expected)


def numpy_views(averaging, dims):
    """Pairs of a view of an image and its inverse: quarter turns in the plane of the first two axes, then flips."""
    turns = {"flips": [0], "rotations": [0, 1, 2, 3], "all": [0, 1]}[averaging]
    subsets = [axes for n in range(dims + 1) for axes in itertools.combinations(range(2, dims + 2), n)]
    for k, axes in itertools.product(turns, [()] if averaging == "rotations" else subsets):
        yield (
            lambda x, k=k, axes=axes: np.flip(np.rot90(x, k, (2, 3)), axes),
            lambda x, k=k, axes=axes: np.rot90(np.flip(x, axes), -k, (2, 3)),
        )


@pytest.mark.parametrize("averaging", ["flips", "rotations", "all"])
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("shape", "sizes"), [((21, 34), [8, (5, 30), None]), ((9, 6, 5), [(3, 8, 5), None])], ids=["2D", "3D"]
)
def test_averaging_is_the_mean_over_numpys_views_whatever_the_tile(network, shape, sizes, averaging, padding):
    dims = len(shape)
    net = network(dims, 2 if dims == 2 else 1, padding=padding)
    image = torch.randn(2, 2, *shape)
    answers = [
        back(one_pass(net, torch.from_numpy(there(image.numpy()).copy()), padding).numpy())
        for there, back in numpy_views(averaging, dims)
    ]
    assert np.abs(answers[1] - answers[0]).max() > 1e-2  # the views do differ
    for size in sizes:
        close(OverlapTileInferer(size, averaging=averaging)(image, net), torch.from_numpy(np.mean(answers, 0)))


@pytest.mark.parametrize("norm", ["instance", "group"])
def test_statistics_of_the_tile_make_the_result_depend_on_the_tile_as_documented(network, norm):
    """A canary: should this fail, the inferer's documentation promises too little."""
    net = network(2, 2, norm=norm)
    image = torch.randn(1, 2, 40, 50) + torch.linspace(0, 5, 50)
    whole, tiled = (OverlapTileInferer(size)(image, net) for size in (None, 12))
    assert (whole - tiled).abs().max() > 1e-2 * whole.std()


def test_tiles_that_abut_at_the_answers_size_would_not_be_one_pass(network):
    """Why the stride is on the pooling grid: four voxels off it, a pass is another function of the image."""
    net = network(2, 3)  # answers 4 more than a multiple of 8
    image = torch.randn(1, 2, 92 + 4, 92)
    with torch.no_grad():
        off_grid, on_grid = net(image[:, :, 4:96]), one_pass(net, image[:, :, 44:52, 44:48])
        whole = net(torch.nn.functional.pad(image, (0, 0, 0, 4), mode="reflect"))  # 12 x 4 answers
    assert on_grid.shape[2:] == (8, 4)
    assert (off_grid - whole[:, :, 4:8]).abs().max() > 1e-2 * whole.std()
