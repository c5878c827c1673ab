from itertools import pairwise

import pytest
import torch

from overtile.engines import polynomial_decay


@pytest.mark.parametrize("power", [0.5, 0.9, 1.0, 2.0])
def test_the_factor_falls_from_one_to_zero(power):
    factors = [polynomial_decay(epoch, 10, power) for epoch in range(11)]
    assert factors[0] == 1
    assert factors[-1] == 0
    assert all(later < earlier for earlier, later in pairwise(factors))


@pytest.mark.parametrize(("power", "middle"), [(1.0, 0.5), (2.0, 0.25), (0.0, 1.0)])
def test_the_power_bends_the_line(power, middle):
    assert polynomial_decay(5, 10, power) == middle


def test_after_the_last_epoch_it_stays_zero():
    assert polynomial_decay(12, 10) == 0


def test_torch_applies_it_to_the_learning_rate_epoch_by_epoch():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.2)
    policy = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: polynomial_decay(epoch, 4, power=1.0))
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        policy.step()
    assert rates == pytest.approx([0.2, 0.15, 0.1, 0.05])
