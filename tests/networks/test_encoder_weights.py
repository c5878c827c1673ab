import copy

import pytest
import torch

from overtile.networks import MultiResUNet, SwinUNet, TransUNet, UNet, load_encoder

SWIN = {"image_size": 32, "patch": 2, "features": 4, "depths": (2, 2), "heads": (1, 2), "window": 4}
TRANS = {"image_size": 32, "features": 4, "units": (1, 1, 1), "hidden": 8, "layers": 1, "heads": 2, "mlp": 12}
MAKERS = {
    "swin": lambda **options: SwinUNet(**{**SWIN, **options}),
    "trans": lambda **options: TransUNet(**{**TRANS, **options}),
    "multires": lambda **options: MultiResUNet(levels=2, features=4, **options),
    "unet": lambda **options: UNet(levels=1, features=2, norm="batch", **options),
}


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


def saved(state, tmp_path):
    torch.save(state, tmp_path / "weights.pt")
    return tmp_path / "weights.pt"


def alike(one, other):
    return {name: torch.equal(value, other.state_dict()[name]) for name, value in one.state_dict().items()}


@pytest.mark.parametrize("wrapping", [None, "model", "state_dict", "network"])
@pytest.mark.parametrize("whole", [True, False], ids=["network", "encoder"])
def test_an_encoder_gets_the_weights_of_a_file_and_nothing_else_changes(make, whole, wrapping, tmp_path):
    torch.manual_seed(0)
    teacher, pupil = make(out_channels=5), make(out_channels=2)
    before = copy.deepcopy(pupil)
    state = (teacher if whole else teacher.encoder).state_dict()
    path = saved({wrapping: state, "epoch": 3} if wrapping else state, tmp_path)
    assert load_encoder(pupil, path) is pupil
    assert all(alike(teacher.encoder, pupil.encoder).values())
    assert not all(alike(before.encoder, pupil.encoder).values())
    rest = {name: same for name, same in alike(before, pupil).items() if not name.startswith("encoder.")}
    assert rest
    assert all(rest.values())


def test_without_a_path_a_network_stays_as_it_is(make):
    network = make()
    before = copy.deepcopy(network)
    assert load_encoder(network, None) is network
    assert all(alike(before, network).values())


def released_swin(channels, depths, heads, window, patch):
    """Names and shapes of the Swin Transformer's release, written down from its code."""
    yield from {"patch_embed.proj.weight": (channels, 3, patch, patch), "patch_embed.proj.bias": (channels,)}.items()
    yield from {"patch_embed.norm.weight": (channels,), "patch_embed.norm.bias": (channels,)}.items()
    for level, depth in enumerate(depths):
        c = channels * 2**level
        for block in range(depth):
            layer = f"layers.{level}.blocks.{block}."
            if block % 2 and level < len(depths) - 1:
                yield layer + "attn_mask", (4, window**2, window**2)
            yield layer + "attn.relative_position_index", (window**2, window**2)
            yield layer + "attn.relative_position_bias_table", ((2 * window - 1) ** 2, heads[level])
            widths = {"norm1": (c,), "attn.qkv": (3 * c, c), "attn.proj": (c, c), "norm2": (c,)}
            for name, shape in {**widths, "mlp.fc1": (4 * c, c), "mlp.fc2": (c, 4 * c)}.items():
                yield f"{layer}{name}.weight", shape
                yield f"{layer}{name}.bias", shape[:1]
        if level < len(depths) - 1:
            yield f"layers.{level}.downsample.reduction.weight", (2 * c, 4 * c)
            yield f"layers.{level}.downsample.norm.weight", (4 * c,)
            yield f"layers.{level}.downsample.norm.bias", (4 * c,)
    yield from {"norm.weight": (c,), "norm.bias": (c,), "head.weight": (1000, c), "head.bias": (1000,)}.items()


def test_weights_with_the_names_of_the_swin_transformers_release_fit_the_encoder_on_demand(tmp_path):
    names = dict(released_swin(4, (2, 4), (1, 2), window=4, patch=2))
    state = {name: torch.randn(shape) for name, shape in names.items()}
    path, network = saved({"model": state}, tmp_path), MAKERS["swin"]()
    with pytest.raises(ValueError, match=r"\d+ only in the file: .*, \.\.\.$"):
        load_encoder(network, path)
    load_encoder(network, path, ignore_others=True)
    for name, tensor in network.encoder.state_dict().items():
        assert torch.equal(tensor, state[name]), name


def test_what_does_not_fit_is_named_and_nothing_is_loaded(make, tmp_path):
    network = make()
    before = copy.deepcopy(network)
    state = dict(make().encoder.state_dict())
    first, second, *_ = state
    del state[first]
    state[second] = torch.zeros(1, 2, 3)
    state["stranger"] = torch.zeros(1)
    with pytest.raises(ValueError, match="nothing was loaded") as error:
        load_encoder(network, saved(state, tmp_path))
    assert f"1 missing in the file: {first}; 1 only in the file: stranger; 1 of another shape: {second} (1, 2, 3)" in (
        str(error.value)
    )
    assert all(alike(before, network).values())


def test_the_weights_of_another_network_are_refused(tmp_path):
    path = saved(MAKERS["unet"]().state_dict(), tmp_path)
    with pytest.raises(ValueError, match=r"encoder of this SwinUNet, nothing was loaded: .* missing in the file"):
        load_encoder(MAKERS["swin"](), path, ignore_others=True)


def test_a_file_that_is_missing_or_holds_something_else_is_refused(tmp_path):
    network = MAKERS["swin"]()
    with pytest.raises(FileNotFoundError, match=r"no file with weights at .*none\.pt; nothing is downloaded"):
        load_encoder(network, tmp_path / "none.pt")
    for content in ([1, 2], {"epoch": 3}, torch.zeros(3)):
        with pytest.raises(ValueError, match="holds no state dictionary"):
            load_encoder(network, saved(content, tmp_path))


@pytest.mark.parametrize("content", [b"", b"not weights", b"PK\x03\x04 half a file", b"\x80\x02."], ids=str)
def test_a_file_of_other_bytes_is_refused(content, tmp_path):
    (tmp_path / "weights.pt").write_bytes(content)
    with pytest.raises(ValueError, match=r"weights\.pt cannot be read as weights: it is no file of torch\.save"):
        load_encoder(MAKERS["unet"](), tmp_path / "weights.pt")


def test_a_file_that_would_run_code_is_refused_unread(tmp_path):
    with pytest.raises(ValueError, match="more than tensors, which might run code"):
        load_encoder(MAKERS["unet"](), saved(MAKERS["unet"](), tmp_path))


def test_a_network_without_an_encoder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a Conv2d has no attribute encoder to load weights into; UNet"):
        load_encoder(torch.nn.Conv2d(1, 1, 1), saved({}, tmp_path))
