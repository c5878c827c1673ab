import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from overtile.geometry import fold, mirror_indices, read_mirrored


@st.composite
def images_and_windows(draw):
    """An image of 1 to 3 axes, perhaps with leading channels, and a window that may lie far outside."""
    leading = draw(st.sampled_from([(), (2,), (1, 2)]))
    shape = draw(st.lists(st.integers(1, 12), min_size=1, max_size=3))
    starts = [draw(st.integers(-40, 40)) for _ in shape]
    lengths = [draw(st.integers(0, 15)) for _ in shape]
    image = np.arange(int(np.prod(leading + tuple(shape))), dtype=np.int32).reshape(leading + tuple(shape))
    return image, [slice(start, start + length) for start, length in zip(starts, lengths, strict=True)]


def padded_window(image, window):
    """Slow twin: pad the whole image far enough, then cut."""
    spatial = image.shape[image.ndim - len(window) :]
    before = [max(0, -w.start) for w in window]
    after = [max(0, w.stop - size) for w, size in zip(window, spatial, strict=True)]
    leading = [(0, 0)] * (image.ndim - len(window))
    padded = np.pad(image, [*leading, *zip(before, after, strict=True)], mode="reflect")
    return padded[(..., *(slice(w.start + b, w.stop + b) for w, b in zip(window, before, strict=True)))]


@settings(max_examples=200, deadline=None)
@given(images_and_windows())
def test_a_window_equals_that_of_the_image_padded_by_numpys_reflect(case):
    image, window = case
    expected = padded_window(image, window)
    np.testing.assert_array_equal(read_mirrored(image, window), expected)
    tensor = read_mirrored(torch.from_numpy(image), window)
    assert tensor.dtype == torch.int32
    np.testing.assert_array_equal(tensor.numpy(), expected)


@pytest.mark.parametrize("size", range(1, 13))
def test_every_index_of_the_endless_axis_is_numpys(size):
    expected = np.pad(np.arange(size), 60, mode="reflect")
    np.testing.assert_array_equal(mirror_indices(-60, size + 60, size), expected)
    assert [fold(position, size) for position in range(-60, size + 60)] == expected.tolist()


def test_an_axis_of_one_voxel_continues_as_that_voxel():
    np.testing.assert_array_equal(mirror_indices(-3, 4, 1), [0] * 7)
    np.testing.assert_array_equal(read_mirrored(np.array([[5, 6]]), [slice(-2, 2), slice(0, 2)]), [[5, 6]] * 4)


def test_a_window_inside_the_image_is_a_view():
    image = np.arange(60).reshape(3, 4, 5)
    assert np.shares_memory(read_mirrored(image, [slice(1, 3), slice(0, 5)]), image)
    tensor = torch.arange(60).reshape(3, 4, 5)
    inside = read_mirrored(tensor, [slice(1, 3), slice(0, 5)])
    assert inside.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    inside.zero_()
    assert int(tensor[:, 1:3].sum()) == 0


def test_a_window_that_leaves_the_image_is_a_copy():
    image = np.zeros(4)
    read_mirrored(image, [slice(-1, 4)])[:] = 1
    assert not image.any()


@pytest.mark.parametrize(
    "dtype",
    [torch.bool, torch.uint8, torch.uint16, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float64],
    ids=str,
)
def test_any_kind_of_tensor_can_be_mirrored_and_keeps_its_kind(dtype):
    window = read_mirrored(torch.tensor([1, 0, 1, 1]).to(dtype), [slice(-2, 6)])
    assert window.dtype == dtype
    assert window.int().tolist() == [1, 0, 1, 0, 1, 1, 1, 0]


def test_a_gradient_flows_back_to_every_voxel_as_often_as_it_was_read():
    image = torch.zeros(3, requires_grad=True)
    read_mirrored(image, [slice(-2, 5)]).sum().backward()
    assert image.grad.tolist() == [2, 3, 2]


@pytest.mark.parametrize("array", [np.zeros, torch.zeros], ids=["numpy", "torch"])
def test_a_window_with_more_axes_than_the_image_is_refused(array):
    with pytest.raises(ValueError, match=r"a window of 2 axes needs an image of as many, got shape \(4,\)"):
        read_mirrored(array((4,)), [slice(0, 2)] * 2)


def test_an_empty_axis_has_no_mirror_image():
    with pytest.raises(ValueError, match="an empty axis cannot be mirrored: size 0"):
        mirror_indices(-1, 3, 0)
    with pytest.raises(ValueError, match="an empty axis"):
        read_mirrored(np.zeros((0, 3)), [slice(-1, 2), slice(0, 3)])
