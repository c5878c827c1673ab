import pytest
import torch
from ignite.engine import Engine
from torch import nn
from torch.optim.swa_utils import update_bn

from overtile.engines import BatchNormEstimator
from overtile.networks import UNet

BATCHES = 5


def network(norm="batch", dropout=0.0):
    torch.manual_seed(0)
    return UNet(2, 1, 2, levels=1, features=2, norm=norm, dropout=dropout).train()


def images(count=BATCHES):
    random = torch.Generator().manual_seed(1)
    return [3 + 2 * torch.randn(2, 1, 20, 20, generator=random) for _ in range(count)]


def run(net, batches, epochs=1, **options):
    """An epoch over the batches in which nothing is trained: the engine only shows them to the estimator."""
    engine = Engine(lambda engine, batch: {"image": batch})
    BatchNormEstimator(net, **options).attach(engine)
    engine.run(batches, max_epochs=epochs)


def statistics(net):
    return {name: tensor.clone() for name, tensor in net.named_buffers() if name.split(".")[-1].startswith("running")}


def test_the_statistics_are_those_of_update_bn_over_the_same_batches():
    ours, theirs = network(), network()
    run(ours, images())
    update_bn(images(), theirs)
    expected = statistics(theirs)
    assert expected
    for name, tensor in statistics(ours).items():
        assert torch.equal(tensor, expected[name]), name


def test_the_first_layer_gets_the_mean_and_the_unbiased_variance_of_what_it_normalises():
    net = nn.Sequential(nn.BatchNorm2d(1))
    run(net, images())
    stacked = torch.stack([image.flatten() for image in images()])
    torch.testing.assert_close(net[0].running_mean[0], stacked.mean())
    torch.testing.assert_close(net[0].running_var[0], stacked.var(dim=1).mean())


def test_dropout_is_off_while_the_statistics_are_taken():
    dropping, plain = network(dropout=0.9), network()
    run(dropping, images())
    run(plain, images())
    for ours, expected in zip(statistics(dropping).values(), statistics(plain).values(), strict=True):
        assert torch.equal(ours, expected)


def test_weights_gradients_and_momentum_are_left_alone():
    net = network()
    net(images()[0]).sum().backward()
    momenta = [module.momentum for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [parameter.clone() for parameter in net.parameters()]
    gradients = [parameter.grad.clone() for parameter in net.parameters()]
    run(net, images())
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), before, strict=True))
    assert all(torch.equal(a.grad, b) for a, b in zip(net.parameters(), gradients, strict=True))
    assert [module.momentum for module in net.modules() if isinstance(module, nn.BatchNorm2d)] == momenta


@pytest.mark.parametrize("training", [True, False])
def test_the_networks_mode_is_restored(training):
    net = network().train(training)
    run(net, images())
    assert {module.training for module in net.modules()} == {training}


@pytest.mark.parametrize("norm", [None, "instance", "group"])
def test_a_network_without_batch_norm_is_not_even_called(norm):
    net = network(norm)
    net.register_forward_hook(lambda *_: pytest.fail("called"))
    run(net, images())


def test_only_the_latest_windows_count():
    ours, theirs = network(), network()
    run(ours, images(), windows=2)
    update_bn(images()[-2:], theirs)
    assert all(torch.equal(a, b) for a, b in zip(statistics(ours).values(), statistics(theirs).values(), strict=True))


def test_statistics_are_taken_every_interval_from_the_windows_since_the_last_time():
    net = network()
    engine = Engine(lambda engine, batch: {"image": batch + engine.state.epoch})
    BatchNormEstimator(net, interval=2).attach(engine)
    engine.run(images(), max_epochs=4)
    expected = network()
    update_bn([image + epoch for epoch in (3, 4) for image in images()], expected)
    for name, tensor in statistics(expected).items():
        assert torch.equal(tensor, statistics(net)[name]), name


def test_a_parallel_wrapper_is_looked_through():
    bare, wrapped = network(), network()
    run(bare, images())
    run(nn.DataParallel(wrapped), images())
    assert all(torch.equal(a, b) for a, b in zip(statistics(bare).values(), statistics(wrapped).values(), strict=True))
