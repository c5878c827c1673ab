import itertools
import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from overtile.geometry import Geometry, Tile, fitted_output_size, fitted_strips, plan_tiles

GEOMETRIES = [Geometry(levels, padding) for levels in range(5) for padding in ("valid", "same")]
ONE_SIZE = [Geometry(0, "same", 3, tile=19), Geometry(0, "same", 0, tile=5), Geometry(2, "same", 4, tile=32)]
ONE_SIZE += [Geometry(1, tile=20), Geometry(4, "valid", tile=572)]


@st.composite
def plans(draw):
    geometry = draw(st.sampled_from(GEOMETRIES + ONE_SIZE))
    shape = draw(st.lists(st.integers(1, 40), min_size=1, max_size=3))
    output_size = [draw(st.integers(1, 60)) for _ in shape]
    return shape, output_size, geometry


@settings(max_examples=150, deadline=None)
@given(plans())
def test_write_windows_partition_the_image(plan):
    shape, output_size, geometry = plan
    written = np.zeros(shape, int)
    for tile in plan_tiles(shape, output_size, geometry):
        assert all(0 <= axis.start < axis.stop <= size for axis, size in zip(tile.write, shape, strict=True))
        written[tile.write] += 1
    assert (written == 1).all()


@settings(max_examples=150, deadline=None)
@given(plans())
def test_every_pass_answers_for_all_that_its_tile_writes(plan):
    """Nothing is read that the network cannot pass, nothing written that it does not answer, with full context."""
    shape, output_size, geometry = plan
    same = geometry.padding == "same" and geometry.tile is None
    for tile in plan_tiles(shape, output_size, geometry):
        for read, write, size in zip(tile.read, tile.write, shape, strict=True):
            end = max(size + -size % geometry.step, 2 * geometry.step)  # the image, filled up to a legal size
            assert write.start % geometry.step == 0
            assert geometry.is_legal_input(read.stop - read.start)
            assert read.start == (max(write.start - geometry.margin, 0) if same else write.start - geometry.margin)
            assert read.stop >= (min(write.stop + geometry.margin, end) if same else write.stop + geometry.margin)
            assert not same or read.stop <= end


@settings(max_examples=150, deadline=None)
@given(plans())
def test_all_tiles_of_a_valid_network_have_one_size_and_of_a_network_of_one_size_that(plan):
    shape, output_size, geometry = plan
    shapes = {tile.input_shape for tile in plan_tiles(shape, output_size, geometry)}
    assert len(shapes) == 1 or (geometry.padding == "same" and geometry.tile is None)
    assert geometry.tile is None or shapes == {(geometry.tile,) * len(shape)}


@pytest.mark.parametrize("geometry", ONE_SIZE, ids=str)
@pytest.mark.parametrize("shape", [(1,), (40, 31), (9, 17, 30)], ids=str)
@pytest.mark.parametrize("limit", [0, 1e4, 1e9])
def test_what_is_fitted_for_a_network_of_one_size_does_not_depend_on_the_limit(shape, geometry, limit):
    assert fitted_output_size(shape, geometry, limit) == (geometry.window_size(1),) * len(shape)


@settings(max_examples=100, deadline=None)
@given(plans())
def test_a_wanted_output_is_rounded_up_by_less_than_two_steps(plan):
    shape, output_size, geometry = plan
    assume(geometry.tile is None)
    shape = [size + 400 for size in shape]  # more than the first tile reads
    tiles = [plan_tiles([size], [wanted], geometry)[0] for size, wanted in zip(shape, output_size, strict=True)]
    for tile, wanted in zip(tiles, output_size, strict=True):
        answered = tile.read[0].stop - tile.write[0].start - geometry.margin
        assert wanted <= answered < wanted + 2 * geometry.step


def test_a_tile_tells_the_shape_it_reads_and_the_shape_it_writes():
    tile = Tile(read=(slice(-92, 480), slice(-92, 96)), write=(slice(0, 384), slice(0, 3)))
    assert (tile.input_shape, tile.write_shape) == ((572, 188), (384, 3))


@pytest.mark.parametrize(("shape", "output_size"), [((40, 50), (20,)), ((40,), (20, 20))])
def test_as_many_output_sizes_as_axes_are_needed(shape, output_size):
    with pytest.raises(ValueError, match="needs one output size per axis"):
        plan_tiles(shape, output_size, Geometry())


@pytest.mark.parametrize(
    ("shape", "output_size", "message"),
    [((0, 4), (4, 4), "empty axis"), ((4, 4), (4, 0), "at least one voxel"), ((4,), (-4,), "at least one voxel")],
)
def test_what_has_no_voxel_has_no_tiles(shape, output_size, message):
    with pytest.raises(ValueError, match=message):
        plan_tiles(shape, output_size, Geometry())


def cost(shape, output_size, geometry):
    """Voxels that pass through the network for one image, and those of the largest tile."""
    tiles = plan_tiles(shape, output_size, geometry)
    return sum(math.prod(tile.input_shape) for tile in tiles), max(math.prod(tile.input_shape) for tile in tiles)


@pytest.mark.parametrize("geometry", [Geometry(1), Geometry(3), Geometry(2, "same")], ids=["valid1", "valid3", "same2"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 50), (40, 31), (90,), (9, 17, 30)], ids=str)
@pytest.mark.parametrize("largest", [0.2, 0.5, 0.8, 1.0])
def test_no_output_size_within_the_limit_costs_less_than_the_fitted_one(shape, geometry, largest):
    grid = [range(1, size + 2 * geometry.step, geometry.step) for size in shape]
    everything = {sizes: cost(shape, sizes, geometry) for sizes in itertools.product(*grid)}
    smallest, whole = (f(voxels for _, voxels in everything.values()) for f in (min, max))
    limit = max(smallest, largest * whole)
    fitted_cost, fitted_voxels = cost(shape, fitted_output_size(shape, geometry, limit), geometry)
    assert fitted_voxels <= limit
    assert fitted_cost == min(total for total, voxels in everything.values() if voxels <= limit)


@pytest.mark.parametrize(
    ("shape", "levels"),
    [((1, 1), 4), ((40, 50), 4), ((2048, 2048), 4), ((512, 512, 60), 3), ((1, 1, 1), 3), ((3, 3000), 4)],
    ids=str,
)
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("side", [50, 150, 300, 600, 1e9])
def test_a_fitted_tile_never_exceeds_the_limit_where_the_smallest_fits(shape, levels, padding, side):
    geometry = Geometry(levels, padding)
    limit = side ** len(shape)
    sizes = fitted_output_size(shape, geometry, limit)
    smallest = geometry.input_size(geometry.step) ** len(shape)
    assert len(sizes) == len(shape)
    assert cost(shape, sizes, geometry)[1] <= max(limit, smallest)
    assert sizes == tuple(map(geometry.window_size, sizes))


@pytest.mark.parametrize("shape", [(1, 1), (40, 50), (512, 512), (33, 20, 7)], ids=str)
def test_without_a_limit_one_tile_holds_the_whole_image_and_less_than_two_steps_more(shape):
    geometry = Geometry(3)
    sizes = fitted_output_size(shape, geometry, math.inf)
    assert len(plan_tiles(shape, sizes, geometry)) == 1
    assert all(size <= fitted < size + 2 * geometry.step for size, fitted in zip(shape, sizes, strict=True))


def test_where_not_even_the_smallest_tile_fits_the_smallest_is_taken():
    assert fitted_output_size((2048, 500), Geometry(4), largest_input=1) == (20, 20)
    assert fitted_output_size((100, 100, 100), Geometry(3), largest_input=0) == (12, 12, 12)


def strip_cost(shape, output_size, axis, height, geometry, held):
    """Voxels that pass through the network, and those that are in it at once."""
    tiles = plan_tiles(shape, output_size, geometry)
    row = max(math.prod(tile.input_shape) // tile.input_shape[axis] for tile in tiles)
    length = tiles[0].input_shape[axis]
    return sum(math.prod(tile.input_shape) for tile in tiles), row * (height + (held if height < length else 0))


@pytest.mark.parametrize("geometry", [Geometry(1), Geometry(3), Geometry(2, "same")], ids=["valid1", "valid3", "same2"])
@pytest.mark.parametrize("shape", [(1, 1), (7, 50), (40, 31), (90,), (9, 17, 30)], ids=str)
@pytest.mark.parametrize("largest", [0.01, 0.1, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("held", [0, 13])
def test_no_strips_within_the_limit_pass_fewer_voxels_than_the_fitted_ones(shape, geometry, largest, held):
    axis = shape.index(max(shape))
    grid = [range(1, size + 2 * geometry.step, geometry.step) for size in shape]
    whole = -(-shape[axis] // geometry.step) * geometry.step
    grid[axis] = [whole]  # strips are as long as the image
    lowest = {
        sizes: strip_cost(shape, sizes, axis, geometry.step, geometry, held) for sizes in itertools.product(*grid)
    }
    smallest, most = (f(voxels for _, voxels in lowest.values()) for f in (min, max))
    limit = max(smallest, largest * most)
    strips = fitted_strips(shape, geometry, limit, held, wanted=math.inf)
    cost, voxels = strip_cost(shape, strips.output_size, axis, strips.height, geometry, held)
    assert strips.axis == axis
    length = plan_tiles(shape[axis : axis + 1], [whole], geometry)[0].input_shape[0]
    assert strips.height % geometry.step == 0 or strips.height == length
    assert voxels <= limit
    assert cost == min(total for total, voxels in lowest.values() if voxels <= limit)


@pytest.mark.parametrize("wanted", [1, 3000, 20_000, 1e9])
def test_a_strip_is_no_higher_than_wanted_but_at_least_a_step(wanted):
    strips = fitted_strips((300, 100), Geometry(2), math.inf, held=10, wanted=wanted)
    row = 140  # 100 voxels, a margin of 20 on each side
    assert strips.height == {1: 4, 3000: 20, 20_000: 140, 1e9: 340}[wanted]
    assert row * strips.height <= max(wanted, row * 4)


def test_where_not_even_the_smallest_strip_fits_the_smallest_is_taken():
    strips = fitted_strips((2048, 500), Geometry(4), largest_input=1, held=100, wanted=1e9)
    assert (strips.output_size, strips.axis, strips.height) == ((2052, 20), 0, 16)


def test_an_image_that_fits_is_one_strip():
    assert fitted_strips((40, 50), Geometry(2), 1e9, held=1e9, wanted=1e9).height == 92
