import pytest
import torch

from overtile.engines import LoadWeights
from overtile.networks import UNet


def network(**options):
    return UNet(2, 1, 2, **{"levels": 1, "features": 2, **options})


def test_weights_are_loaded_also_into_a_wrapped_network(tmp_path):
    trained, fresh = network(), network()
    torch.save(trained.state_dict(), tmp_path / "model.pt")
    LoadWeights(str(tmp_path / "model.pt"), torch.nn.DataParallel(fresh))()
    assert all(torch.equal(a, b) for a, b in zip(trained.parameters(), fresh.parameters(), strict=True))


def test_missing_weights_are_named_with_the_remedy(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no trained weights at .*model.pt: .*--ckpt_dir"):
        LoadWeights(str(tmp_path / "model.pt"), network())()


@pytest.mark.parametrize(
    "options",
    [{"features": 4}, {"norm": "batch"}, {"levels": 2}, {"levels": 0}],
    ids=["wider", "norm", "deeper", "shallower"],
)
def test_weights_of_another_network_are_refused_and_change_nothing(tmp_path, options):
    torch.save(network().state_dict(), tmp_path / "model.pt")
    other = network(**options)
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(ValueError, match=r"weights of another network: \S+ has shape .* there and .*--features"):
        LoadWeights(str(tmp_path / "model.pt"), other)()
    assert all(torch.equal(before[name], tensor) for name, tensor in other.state_dict().items())


def test_the_first_difference_is_named_with_both_shapes(tmp_path):
    torch.save(network().state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"encoder.0.0.weight has shape \(2, 1, 3, 3\) there and \(4, 1, 3, 3\) here"):
        LoadWeights(str(tmp_path / "model.pt"), network(features=4))()
