import itertools

import pytest
import torch

from overtile.inferers import Symmetry, symmetries

KINDS = {("flips", 2): 4, ("rotations", 2): 4, ("all", 2): 8, ("flips", 3): 8, ("rotations", 3): 4, ("all", 3): 16}
SHAPES = {2: (2, 3, 4, 5), 3: (2, 1, 3, 4, 2)}
every_kind = pytest.mark.parametrize(("kind", "dims"), list(KINDS))


def image(dims):
    return torch.arange(torch.Size(SHAPES[dims]).numel()).reshape(SHAPES[dims])


def seen(views, dims):
    """What each symmetry makes of an image: two symmetries are one where these are equal."""
    return {(tuple(view.shape), tuple(view.flatten().tolist())) for view in (v.apply(image(dims)) for v in views)}


@every_kind
def test_there_are_as_many_different_symmetries_as_the_group_has_and_the_identity_is_first(kind, dims):
    views = symmetries(kind, dims)
    assert len(views) == len(seen(views, dims)) == KINDS[kind, dims]
    assert torch.equal(views[0].apply(image(dims)), image(dims))


@every_kind
def test_symmetries_form_a_group(kind, dims):
    views = symmetries(kind, dims)
    for first, second in itertools.product(views, views):
        twice = second.apply(first.apply(image(dims)))
        assert any(view.apply(image(dims)).tolist() == twice.tolist() for view in views)


@every_kind
def test_the_inverse_undoes_each_symmetry(kind, dims):
    for view in symmetries(kind, dims):
        assert torch.equal(view.invert(view.apply(image(dims))), image(dims))


@pytest.mark.parametrize("permutation", list(itertools.permutations(range(3))), ids=str)
def test_the_inverse_undoes_any_order_of_axes_also_one_that_is_not_its_own_inverse(permutation):
    for flips in ((), (0,), (1, 2), (0, 1, 2)):
        view = Symmetry(permutation, flips)
        assert torch.equal(view.invert(view.apply(image(3))), image(3))


@pytest.mark.parametrize("dims", [2, 3])
def test_rotations_are_those_of_torch_in_the_plane_of_the_first_two_axes(dims):
    views = [view.apply(image(dims)) for view in symmetries("rotations", dims)]
    for quarter_turns, view in enumerate(views):
        assert torch.equal(view, torch.rot90(image(dims), quarter_turns, dims=(2, 3)))


@pytest.mark.parametrize("dims", [2, 3])
def test_flips_are_those_of_every_subset_of_axes(dims):
    subsets = [axes for count in range(dims + 1) for axes in itertools.combinations(range(2, dims + 2), count)]
    for axes, view in zip(subsets, symmetries("flips", dims), strict=True):
        assert torch.equal(view.apply(image(dims)), image(dims).flip(axes))


@pytest.mark.parametrize("dims", [2, 3])
def test_all_holds_flips_and_rotations_and_no_other_than_their_products(dims):
    flips, rotations, everything = (symmetries(kind, dims) for kind in ("flips", "rotations", "all"))
    assert seen(flips, dims) | seen(rotations, dims) <= seen(everything, dims)
    products = {
        (tuple(twice.shape), tuple(twice.flatten().tolist()))
        for twice in (b.apply(a.apply(image(dims))) for a, b in itertools.product(flips, rotations))
    }
    assert products == seen(everything, dims)


def test_no_averaging_is_the_identity_alone():
    (identity,) = symmetries("none", 3)
    assert torch.equal(identity.apply(image(3)), image(3))
    assert torch.equal(identity.invert(image(3)), image(3))


def test_an_unknown_averaging_is_refused():
    with pytest.raises(ValueError, match="averaging must be 'none', 'flips', 'rotations' or 'all', got 'mirror'"):
        symmetries("mirror", 2)
