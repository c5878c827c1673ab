import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import nn

from overtile.geometry import Geometry
from overtile.inferers import OverlapTileInferer
from overtile.networks import UNet


class Cropped(nn.Module):
    """The identity with a margin: answers each voxel it would have context for with itself."""

    def __init__(self, geometry=None):
        super().__init__()
        self.geometry = geometry or Geometry(1)
        self.shapes = []

    def forward(self, image, factor=1, *, shift=0):
        self.shapes.append(tuple(image.shape[2:]))
        kept = (slice(self.geometry.loss, size - self.geometry.loss) for size in image.shape[2:])
        return image[(..., *kept)] * factor + shift


class Wrapped(nn.Module):
    """As torch.nn.parallel.DistributedDataParallel has it."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args):
        return self.module(*args)


ONE_SIZE = [
    Geometry(0, "same", 3, tile=19),
    Geometry(0, "same", 0, tile=17),
    Geometry(2, "same", 4, tile=32),
    Geometry(1, tile=34),
]
ONE_SIZE_IDS = ["tile 19", "tile 17", "tile 32", "tile 34, valid"]
SHAPES = [(1, 1), (1, 37), (3, 2), (16, 16), (40, 50), (33, 64), (1, 1, 1), (5, 2, 9), (12, 7, 20)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    "geometry",
    [Geometry(1), Geometry(3), Geometry(4), Geometry(2, "same"), Geometry(1, "same", 0), *ONE_SIZE],
    ids=["valid1", "valid3", "valid4", "same2", "no-margin", *ONE_SIZE_IDS],
)
@pytest.mark.parametrize("output_size", [1, 17, None])
def test_the_identity_gives_the_image_back_voxel_for_voxel(shape, geometry, output_size):
    image, network = torch.rand(2, 3, *shape), Cropped(geometry)
    assert torch.equal(OverlapTileInferer(output_size)(image, network), image)
    assert geometry.tile is None or set(network.shapes) == {(geometry.tile,) * len(shape)}


@pytest.mark.parametrize("geometry", ONE_SIZE, ids=ONE_SIZE_IDS)
@pytest.mark.parametrize("averaging", ["none", "all"])
@pytest.mark.parametrize("memory_limit", [1e-9, 1e9])
def test_no_memory_limit_and_no_symmetry_changes_the_tiles_of_a_network_of_one_size(geometry, averaging, memory_limit):
    image, network = torch.rand(1, 1, 33, 64), Cropped(geometry)
    inferer = OverlapTileInferer(averaging=averaging, memory_limit=memory_limit)
    torch.testing.assert_close(inferer(image, network), image)
    kept = geometry.tile - 2 * geometry.margin
    tiles = math.ceil(33 / kept) * math.ceil(64 / kept)
    assert network.shapes == [(geometry.tile,) * 2] * tiles * (8 if averaging == "all" else 1)


class Surroundings(nn.Module):
    """Zero-padded, of one size: sums a voxel's surroundings with random weights, no farther than its margin."""

    def __init__(self, dims, tile, reach, margin):
        super().__init__()
        self.geometry = Geometry(0, "same", margin, tile)
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.rand(1, 1, *[2 * reach + 1] * dims, generator=generator, dtype=torch.float64)

    def forward(self, image):
        if set(image.shape[2:]) != {self.geometry.tile}:
            raise ValueError(f"the only size is {self.geometry.tile}, got {tuple(image.shape)}")
        convolution = F.conv2d if image.ndim == 4 else F.conv3d
        return convolution(image, self.weight, padding="same")


def voxel_by_voxel(image, weight):
    """Slow twin: a window of its own around each voxel of the image, which NumPy mirrors."""
    reach, kernel = weight.shape[-1] // 2, weight.numpy()[0, 0]
    around = np.pad(image.numpy(), [(0, 0)] * 2 + [(reach, reach)] * kernel.ndim, mode="reflect")
    answer = np.empty(image.shape)
    for voxel in np.ndindex(*image.shape[2:]):
        window = around[(0, 0, *(slice(at, at + 2 * reach + 1) for at in voxel))]
        answer[(0, 0, *voxel)] = (window * kernel).sum()
    return torch.from_numpy(answer)


@pytest.mark.parametrize(
    "shape", [(1, 1), (2, 9), (13, 13), (14, 12), (30, 41), (3, 1, 5), (9, 9, 9), (8, 20, 11)], ids=str
)
def test_tiles_of_one_size_equal_a_window_for_each_voxel_where_the_margin_holds_all_it_depends_on(shape):
    tile, image = 13 if len(shape) == 2 else 9, torch.rand(1, 1, *shape, dtype=torch.float64)
    network = Surroundings(len(shape), tile, reach=2, margin=2)
    expected = voxel_by_voxel(image, network.weight)
    torch.testing.assert_close(OverlapTileInferer()(image, network), expected)
    too_narrow = Surroundings(len(shape), tile, reach=2, margin=1)
    assert not torch.allclose(OverlapTileInferer()(image, too_narrow), expected)


def test_an_output_size_beyond_the_tile_of_a_network_of_one_size_is_refused():
    network = Cropped(Geometry(0, "same", 28, tile=224))
    with pytest.raises(
        ValueError, match=r"output_size 388 is more than 224, .* tiles of 224 voxels only; leave it out"
    ):
        OverlapTileInferer(388)(torch.rand(1, 1, 20, 20), network)
    with pytest.raises(ValueError, match=r"output_size \(20, 400\) is more than 388, .* tiles of 572 voxels only"):
        OverlapTileInferer((20, 400))(torch.rand(1, 1, 20, 20), Cropped(Geometry(4, tile=572)))
    OverlapTileInferer(224)(torch.rand(1, 1, 20, 20), network)
    assert network.shapes == [(224, 224)]


@pytest.mark.parametrize("averaging", ["flips", "rotations", "all"])
@pytest.mark.parametrize("shape", [(1, 5), (13, 8), (5, 2, 9)], ids=str)
def test_the_identity_gives_the_image_back_also_through_every_symmetry(shape, averaging):
    image = torch.rand(2, 1, *shape)
    result = OverlapTileInferer((4, 10, 6)[: len(shape)], averaging=averaging)(image, Cropped())
    torch.testing.assert_close(result, image)  # a mean of equal numbers, to rounding


@pytest.mark.parametrize(
    ("averaging", "views"), [("none", 1), ("flips", 4), ("rotations", 4), ("all", 8)], ids=lambda value: str(value)
)
def test_each_view_passes_each_of_its_tiles_once(averaging, views):
    network = Cropped()
    OverlapTileInferer((20, 10), averaging=averaging)(torch.rand(1, 1, 40, 31), network)
    assert len(network.shapes) == views * 2 * 4
    turned = {"none": 0, "flips": 0, "rotations": 2, "all": 4}[averaging]
    assert network.shapes.count((36, 26)) == 8 * (views - turned)
    assert network.shapes.count((26, 36)) == 8 * turned  # the wanted size turns with the image


@pytest.mark.parametrize(
    ("output_size", "side"), [(1, 204), (20, 204), (21, 220), ([21], 220), (388, 572), (389, 588)], ids=str
)
def test_an_output_size_is_rounded_up_to_what_the_network_answers(output_size, side):
    network = Cropped(Geometry(4))
    OverlapTileInferer(output_size)(torch.rand(1, 1, 30), network)
    assert set(network.shapes) == {(side,)}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_a_mean_over_views_is_at_least_as_exact_as_float32_and_a_single_view_keeps_its_type(dtype):
    image = torch.rand(1, 1, 6, 9).to(dtype)
    assert OverlapTileInferer(4)(image, Cropped()).dtype == dtype
    mean = OverlapTileInferer(4, averaging="all")(image, Cropped())
    assert mean.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(mean, image.to(mean.dtype), rtol=1e-6 if dtype != torch.float64 else 1e-15, atol=0)


def test_further_arguments_reach_the_network():
    image = torch.rand(1, 1, 6, 9)
    assert torch.equal(OverlapTileInferer(4)(image, Cropped(), 2, shift=3), image * 2 + 3)


def test_no_gradient_is_kept():
    image = torch.rand(1, 1, 18, 18, requires_grad=True)
    assert not OverlapTileInferer(2)(image, UNet(levels=1, features=1).eval()).requires_grad


@pytest.mark.parametrize("wrap", [1, 0], ids=["wrapped", "bare"])
def test_the_declared_geometry_is_found_also_through_a_parallel_wrapper(wrap):
    network = Cropped(Geometry(2))
    image = torch.rand(1, 1, 9, 9)
    assert torch.equal(OverlapTileInferer(9)(image, Wrapped(network) if wrap else network), image)
    assert network.shapes == [(52, 52)]


def test_a_given_geometry_goes_before_the_networks_own_and_the_paper_is_the_default():
    image = torch.rand(1, 1, 9, 9)
    assert torch.equal(OverlapTileInferer(4, geometry=Geometry(0, "same"))(image, lambda tile: tile), image)
    assert torch.equal(OverlapTileInferer(4)(image, lambda tile: tile[..., 92:-92, 92:-92]), image)


VALID, SAME = UNet(levels=1, features=1).eval(), UNet(levels=1, features=1, padding="same").eval()


@pytest.mark.parametrize(
    ("network", "geometry", "got"),
    [
        pytest.param(lambda t: VALID(t), Geometry(1, "same"), r"\(1, 2, 2, 2\)", id="valid network declared same"),
        pytest.param(lambda t: SAME(t), Geometry(1), r"\(1, 2, 24, 24\)", id="same network declared valid"),
        pytest.param(lambda t: VALID(t), Geometry(0), r"\(1, 2, 2, 2\)", id="wrong number of levels"),
        pytest.param(lambda t: (VALID(t),), Geometry(1), "tuple", id="tuple"),
        pytest.param(lambda t: VALID(t)[0], Geometry(1), r"\(2, 8, 8\)", id="no batch axis"),
        pytest.param(lambda t: VALID(torch.cat([t, t])), Geometry(1), r"\(2, 2, 8, 8\)", id="another batch size"),
    ],
)
def test_a_network_that_does_not_answer_as_declared_is_refused_with_the_remedy(network, geometry, got):
    size = 14 if geometry.levels == 0 else 8
    with pytest.raises(ValueError, match=rf"got {got}; declare what it does with OverlapTileInferer\(geometry="):
        OverlapTileInferer(size, geometry=geometry)(torch.rand(1, 1, 20, 20), network)


def test_the_result_is_put_together_where_asked_and_tiles_are_computed_where_the_weights_are():
    image = torch.rand(1, 1, 18, 18)
    network = UNet(levels=1, features=1).eval()
    assert OverlapTileInferer(2, device="cpu")(image, network).device.type == "cpu"
    assert OverlapTileInferer(2, device="meta")(image, network).device.type == "meta"
    places = []
    tap = network.register_forward_pre_hook(lambda _module, inputs: places.append(inputs[0].device.type))
    OverlapTileInferer(2, device="meta")(image, network.to("meta"))
    tap.remove()
    OverlapTileInferer(2, network_device="meta", device="meta")(
        image, lambda t: places.append(t.device.type) or t[..., 92:-92, 92:-92]
    )
    assert set(places) == {"meta"}


@pytest.mark.parametrize("averaging", ["none", "flips"])
def test_a_meta_tensors_meta_data_are_passed_on(averaging):
    affine = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0]))
    image = MetaTensor(torch.rand(1, 1, 7, 5), affine=affine, meta={"filename_or_obj": "cell.tif"})
    result = OverlapTileInferer(4, averaging=averaging)(image, Cropped())
    assert isinstance(result, MetaTensor)
    assert torch.equal(result.affine, affine.double())
    assert result.meta["filename_or_obj"] == "cell.tif"
    torch.testing.assert_close(result.as_tensor(), image.as_tensor())
    assert type(OverlapTileInferer(4)(image.as_tensor(), Cropped())) is torch.Tensor


def test_a_progress_bar_goes_to_stderr_and_only_when_asked(capsys):
    image = torch.rand(1, 1, 20, 8)
    OverlapTileInferer(10)(image, Cropped())
    assert capsys.readouterr() == ("", "")
    OverlapTileInferer(10, averaging="flips", progress=True)(image, Cropped())
    out, err = capsys.readouterr()
    assert out == ""
    assert "8/8" in err  # two tiles, four views


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output_size": 0}, "output_size must be at least 1 voxel per axis, or None, got 0"),
        ({"output_size": (20, -1)}, "output_size must be at least 1"),
        ({"output_size": ()}, "output_size must be at least 1"),
        ({"memory_limit": 0}, "memory_limit must be a positive number of GiB, got 0"),
        ({"averaging": "mirror"}, "averaging must be 'none', 'flips', 'rotations' or 'all', got 'mirror'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_inferer_that_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        OverlapTileInferer(**options)


@pytest.mark.parametrize("shape", [(5, 5), (1, 1, 0, 5), (0, 1, 5, 5)], ids=str)
def test_what_is_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"must be \(batch, channels, \*spatial\) and not empty"):
        OverlapTileInferer()(torch.zeros(shape), Cropped())


def test_an_output_size_for_other_axes_is_refused():
    with pytest.raises(ValueError, match=r"output_size \(4, 4\) does not fit an image with 3 spatial axes"):
        OverlapTileInferer((4, 4))(torch.zeros(1, 1, 5, 5, 5), Cropped())
