import pytest

from overtile.geometry import Geometry, margin

LEVELS = range(6)


def surviving(size, levels):
    """Slow twin: the valid U-Net's sizes, operation by operation; None where a pooling cuts or nothing is left."""
    skips = []
    for level in range(levels + 1):
        if level:
            if size % 2:
                return None
            size //= 2
        size -= 4  # two 3x3 convolutions
        if size < 1:
            return None
        skips.append(size)
    for skip in reversed(skips[:-1]):
        size = 2 * size
        assert (skip - size) % 2 == 0, "the skip could not be cropped at its centre"
        size -= 4
        if size < 1:
            return None
    return size


def same_surviving(size, levels):
    return size if size > 0 and size % 2**levels == 0 else None


TWINS = {"valid": surviving, "same": same_surviving}


@pytest.mark.parametrize(("levels", "voxels"), list(enumerate([2, 8, 20, 44, 92, 188])))
def test_the_margin_is_half_of_what_the_papers_shrink(levels, voxels):
    assert margin(levels) == Geometry(levels).margin == Geometry(levels).loss == voxels
    assert 2 * margin(levels) == 12 * 2**levels - 8


def test_the_margin_grows_with_convolutions_and_kernels():
    assert margin(4, convs=1) == 46
    assert margin(4, kernel=5) == 2 * 92
    assert margin(3, convs=3, kernel=1) == 0


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("levels", LEVELS)
def test_legal_inputs_and_their_outputs_are_those_of_a_simulated_pass(levels, padding):
    geometry = Geometry(levels, padding)
    for size in range(-40, 700):
        output = TWINS[padding](size, levels)
        assert geometry.is_legal_input(size) == (output is not None), size
        if output is not None:
            assert geometry.output_size(size) == output


@pytest.mark.parametrize(
    ("levels", "sizes"),
    [
        (1, {2 * d + 4: 2 * d - 12 for d in range(7, 40)}),
        (2, {4 * d + 12: 4 * d - 28 for d in range(8, 40)}),
        (3, {8 * d + 28: 8 * d - 60 for d in range(8, 40)} | {132: 44, 116: 28, 92: 4}),
        (4, {16 * d + 60: 16 * d - 124 for d in range(8, 40)} | {572: 388, 188: 4, 204: 20, 556: 372, 588: 404}),
        (5, {32 * d + 124: 32 * d - 252 for d in range(8, 40)}),
    ],
    ids=lambda value: f"{value}-levels" if isinstance(value, int) else "",
)
def test_sizes_are_those_of_the_papers_formulas(levels, sizes):
    geometry = Geometry(levels)
    assert {size: geometry.output_size(size) for size in sizes} == sizes
    legal = [size for size in range(max(sizes) + 1) if geometry.is_legal_input(size)]
    assert legal == sorted(sizes)
    assert geometry.smallest_input == legal[0]


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("levels", LEVELS)
def test_an_illegal_size_is_refused_with_the_nearest_legal_ones(levels, padding):
    geometry, passes = Geometry(levels, padding), TWINS[padding]
    for size in range(-5, 480):
        if passes(size, levels) is not None:
            continue
        below = next((s for s in range(size, 0, -1) if passes(s, levels) is not None), None)
        above = next(s for s in range(max(size, 1), 2000) if passes(s, levels) is not None)
        nearest = " and ".join(str(s) for s in (below, above) if s is not None)
        with pytest.raises(ValueError, match=rf"input size {size} .* the nearest are {nearest}$"):
            geometry.output_size(size)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("levels", LEVELS)
def test_the_input_for_an_output_is_the_smallest_legal_one_that_holds_it(levels, padding):
    geometry, passes = Geometry(levels, padding), TWINS[padding]
    for wanted in range(1, 3 * 2**levels + 30):
        smallest = next(
            size
            for size in range(wanted + 2 * geometry.margin, 2000)
            if passes(size, levels) is not None  # and less the margin it holds `wanted`, by where the search starts
        )
        assert geometry.input_size(wanted) == smallest
        assert geometry.window_size(wanted) == smallest - 2 * geometry.margin


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("levels", LEVELS)
def test_the_stride_is_the_largest_step_of_the_pooling_grid_that_the_write_window_holds(levels, padding):
    geometry = Geometry(levels, padding)
    for wanted in range(geometry.step, 4 * geometry.step + 5):
        window = geometry.window_size(wanted)
        assert geometry.stride(wanted) == max(s for s in range(geometry.step, window + 1) if s % 2**levels == 0)


def test_the_papers_tile_of_388_steps_by_384():
    assert (Geometry(4).stride(388), Geometry(3).stride(44), Geometry(3).stride(28)) == (384, 40, 24)


@pytest.mark.parametrize("levels", LEVELS)
def test_a_same_padded_network_loses_nothing_and_its_margin_lies_on_the_pooling_grid(levels):
    geometry = Geometry(levels, "same")
    assert geometry.loss == 0
    assert geometry.smallest_input == geometry.step == 2**levels
    reach = margin(levels) + 2**levels - 1  # 107 voxels to one side for four levels
    assert geometry.margin == min(m for m in range(reach, reach + 2**levels) if m % 2**levels == 0)


def test_a_same_padded_network_takes_any_margin_on_its_grid():
    assert Geometry(2, "same", margin=0).input_size(10) == 12
    assert Geometry(2, "same", margin=8).input_size(10) == 28
    assert Geometry(2, "valid", margin=20) == Geometry(2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": -1}, "levels must be 0 or more, got -1"),
        ({"padding": "full"}, "padding must be 'valid' or 'same', got 'full'"),
        ({"margin": -2}, "margin must be 0 or more voxels, got -2"),
        ({"padding": "same", "margin": 100}, "must be a multiple of 16, got 100"),
        ({"margin": 90}, "a valid network with 4 levels loses 92 voxels, not 90"),
        ({"levels": 0, "padding": "same", "margin": 16, "tile": 32}, "must have 33 voxels, or .* 1 more, got 32"),
        ({"levels": 5, "padding": "same", "margin": 32, "tile": 250}, "must have 96 voxels, or .* 32 more, got 250"),
        ({"tile": 570}, "with 4 levels and margins of 92 voxels must have 204 voxels, or .* 16 more, got 570"),
        ({"tile": 188}, "must have 204 voxels"),
        ({"levels": 0, "padding": "same", "margin": 0, "tile": 0}, "must have 1 voxels"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_geometry_that_no_network_has_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Geometry(**options)


ONE_SIZE = [
    pytest.param(Geometry(0, "same", 28, 224), 224, 168, id="a transformer's"),
    pytest.param(Geometry(0, "same", 0, 7), 7, 7, id="no margin"),
    pytest.param(Geometry(5, "same", 32, 224), 224, 160, id="same padding on a pooling grid"),
    pytest.param(Geometry(4, "valid", tile=572), 388, 384, id="the paper's"),
]


@pytest.mark.parametrize(("geometry", "answered", "stride"), ONE_SIZE)
def test_a_network_of_one_size_passes_it_and_no_other_whatever_is_wanted(geometry, answered, stride):
    tile = geometry.tile
    assert [size for size in range(-5, 800) if geometry.is_legal_input(size)] == [tile] == [geometry.smallest_input]
    assert geometry.output_size(tile) == answered == tile - 2 * geometry.loss
    for wanted in (1, tile, 1000):
        assert geometry.input_size(wanted) == tile
        assert geometry.window_size(wanted) == answered  # a training window has no halo
        assert geometry.stride(wanted) == stride
    for other in (tile - 1, tile + 1, 2 * tile):
        with pytest.raises(ValueError, match=f"takes inputs of {tile} voxels only, got {other}"):
            geometry.output_size(other)


@pytest.mark.parametrize("size", [1, 100, 224, 500])
def test_a_network_of_one_size_reads_its_tile_also_beyond_the_border_of_the_image(size):
    geometry = Geometry(0, "same", margin=28, tile=224)
    assert geometry.read_window(0, 10, size) == slice(-28, 196)
    assert geometry.read_window(168, 10, size) == slice(140, 364)


@pytest.mark.parametrize("method", ["input_size", "window_size", "stride"])
@pytest.mark.parametrize("size", [0, -3])
def test_an_output_without_voxels_is_refused(method, size):
    with pytest.raises(ValueError, match=f"at least one voxel per axis, got {size}"):
        getattr(Geometry(), method)(size)
