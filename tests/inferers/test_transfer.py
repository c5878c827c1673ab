import pytest
import torch

from overtile.inferers import OverlapTileInferer
from overtile.inferers.transfer import received, sent
from overtile.networks import UNet

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def test_on_one_device_nothing_is_copied_or_reordered():
    pieces = [(place, torch.full((2, 3), float(place))) for place in range(5)]
    cpu = torch.device("cpu")
    for (place, piece), (expected_place, expected) in zip(received(pieces, cpu), pieces, strict=True):
        assert place == expected_place
        assert piece is expected
        assert sent(piece, cpu) is piece


def test_pieces_are_drawn_one_by_one():
    drawn = []

    def pieces():
        for place in range(3):
            drawn.append(place)
            yield place, torch.zeros(1)

    arriving = received(pieces(), torch.device("cpu"))
    next(arriving)
    assert drawn == [0]


@gpu
def test_pieces_from_a_gpu_arrive_whole_and_in_order():
    pieces = ((place, torch.full((256, 256), float(place), device="cuda") + 1) for place in range(20))
    for expected, (place, piece) in enumerate(received(pieces, torch.device("cpu"))):
        assert place == expected
        assert piece.device.type == "cpu"
        assert torch.equal(piece, torch.full((256, 256), expected + 1.0))


@gpu
@pytest.mark.parametrize("output_size", [None, 36], ids=["strips", "tiles"])
def test_an_image_in_memory_through_a_network_on_a_gpu(output_size):
    network, image = UNet(levels=2, features=8).eval(), torch.rand(1, 1, 301, 403)
    expected = OverlapTileInferer(output_size)(image, network)
    with torch.backends.cudnn.flags(allow_tf32=False):
        found = OverlapTileInferer(output_size)(image, network.cuda())
    assert found.device.type == "cpu"
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
