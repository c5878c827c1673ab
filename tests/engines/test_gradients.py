import pytest
import torch
from monai.engines import SupervisedTrainer, Workflow

from overtile.engines.gradients import GradientClipping


def one_step(factor, max_norm=None, scaler=None):
    """The change of three weights of 0 in one step of rate 1 down a slope of ``factor`` times (1, 2, 2)."""
    network = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.tensor([[1.0, 2.0, 2.0]]), "label": torch.zeros(1, 1)}],
        network=network,
        optimizer=optimizer,
        loss_function=lambda answer, _: factor * answer.sum(),
        train_handlers=[] if max_norm is None else [GradientClipping(max_norm)],
        decollate=False,
        amp=scaler is not None,
        amp_kwargs={"enabled": False},
    )
    if scaler is not None:  # `run` makes one for a GPU, which does nothing without
        trainer.scaler = scaler
        Workflow.run(trainer)
    else:
        trainer.run()
    return -network.weight.detach()[0]


def test_a_gradient_above_the_norm_is_scaled_down_to_it():
    torch.testing.assert_close(one_step(100), torch.tensor([100.0, 200.0, 200.0]))
    torch.testing.assert_close(one_step(100, max_norm=12), torch.tensor([4.0, 8.0, 8.0]))


def test_a_gradient_below_the_norm_stays_as_it_is():
    assert torch.equal(one_step(2, max_norm=12), one_step(2))


def test_the_norm_is_that_of_the_gradient_itself_where_mixed_precision_has_scaled_it_up():
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    torch.testing.assert_close(one_step(2, max_norm=12, scaler=scaler), one_step(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    torch.testing.assert_close(one_step(100, max_norm=12, scaler=scaler), one_step(100, max_norm=12))


@pytest.mark.parametrize("max_norm", [0, -1, float("nan")])
def test_a_norm_that_is_not_above_0_is_refused(max_norm):
    with pytest.raises(ValueError, match="a number above 0"):
        GradientClipping(max_norm)
