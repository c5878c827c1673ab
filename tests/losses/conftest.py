"""Random logits, labels and weights for losses."""

import numpy as np
import pytest
import torch
from hypothesis import strategies as st


@st.composite
def cases(draw, fewest_classes):
    batch, classes = draw(st.integers(1, 3)), draw(st.integers(fewest_classes, 4))
    spatial = draw(st.lists(st.integers(1, 4), min_size=2, max_size=3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    logits = rng.normal(0, draw(st.sampled_from([0.1, 3.0, 80.0])), (batch, classes, *spatial)).astype(np.float32)
    weight = rng.uniform(0.1, 11, (batch, *spatial)).astype(np.float32)
    weight[rng.random(weight.shape) < draw(st.sampled_from([0, 0.3, 1]))] = 0
    label = rng.integers(0, classes, weight.shape)
    return logits, np.where(weight > 0, label, rng.choice([-1, 255, classes], weight.shape)), weight


@pytest.fixture(scope="session")
def weighted_cases():
    """Logits (B, K, *spatial), label and weight (B, *spatial); some voxels ignored, their labels arbitrary."""
    return cases


@pytest.fixture(scope="session")
def example():
    """Makes logits (B, K, *spatial), label and weight above 0 (B, 1, *spatial), the same each time."""

    def make(spatial=(5, 4), classes=3, batch=2):
        rng = torch.Generator().manual_seed(0)
        logits = torch.randn((batch, classes, *spatial), generator=rng)
        label = torch.randint(classes, (batch, 1, *spatial), generator=rng)
        return logits, label, torch.rand((batch, 1, *spatial), generator=rng) * 10 + 0.1

    return make
