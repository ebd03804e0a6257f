from __future__ import annotations

import pytest
import torch

import striate as st
from striate.inspection.saliency.maps import SaliencyMaps, saliency
from striate.inspection.saliency.registry import METHODS
from tests.inspection import subjects

NAMES = [*subjects.ZOO, *subjects.FOREIGN]
# The quick ones; the others take half a minute together.
QUICK = ["feedforward1", "lenet5", "speednet_small", "nin_cifar10", "resnet20_cifar10", *subjects.FOREIGN]


def checked(name: str, method: str | None, check: bool) -> SaliencyMaps:
    """Return the maps of a subject after a look at whether it was left as it was."""
    network, images = subjects.build(name).train(), subjects.pictures(name, 1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    result = saliency(network, images, method, check=check)
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert result.maps.shape == (1, *images.shape[2:])
    assert result.maps.isfinite().all()
    return result


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES]
)
def test_every_network_with_no_argument_but_the_picture(name: str) -> None:
    result = checked(name, None, check=False)
    assert result.method == ("gradient" if name == "feedforward1" else "grad_cam")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS.names())
@pytest.mark.parametrize("name", NAMES)
def test_every_network_by_every_method(name: str, method: str) -> None:
    if method == "grad_cam" and name == "feedforward1":
        pytest.skip("it has no maps")
    assert checked(name, method, check=False).maps.any() or method == "grad_cam"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_network_with_its_checks(name: str) -> None:
    result = checked(name, "gradient", check=True)
    assert result.check is not None
    assert result.check.randomisation.curve.isfinite().all()
    assert result.check.randomisation.maps.isfinite().all()
    result.draw().png()


@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_on_a_network_that_works_in_place(method: str) -> None:
    result = checked("in place", method, check=True)
    assert result.maps.any()
    assert result.check is not None
    assert result.draw().image.width > 4 * 224
    assert "random weights: ρ = " in str(result)
    assert ("the sum misses" in str(result)) == (method == "integrated_gradients")


def test_the_sheet_shows_the_map_the_right_way_up() -> None:
    network, images = subjects.build("lenet5"), subjects.pictures("lenet5", 1)
    found = saliency(network, images, "gradient", check=False)
    maps = torch.zeros(1, 28, 28)
    maps[0, 0, 27] = 1  # the upper right corner alone
    sheet = SaliencyMaps(
        maps, "gradient", images, found.origins, found.targets, found.probability, found.class_names
    ).draw()
    pixels = torch.tensor(list(sheet.image.get_flattened_data())).view(sheet.image.height, sheet.image.width, 3)
    rows, columns = (pixels == torch.tensor([253, 231, 37])).all(2).nonzero(as_tuple=True)
    tile = rows < rows.min() + 9  # the legend, further down, has this colour too
    assert tile.sum() == 81
    assert columns[tile].min() == 20 + 252 + 8 + 27 * 9


def test_the_class_that_is_asked_about() -> None:
    network, images = subjects.build("lenet5"), subjects.pictures("lenet5", 2)
    own = saliency(network, images, "gradient", check=False)
    with torch.no_grad():
        logits = network(images.float() / 255)
    assert torch.equal(own.targets, logits.argmax(1))
    torch.testing.assert_close(own.probability, logits.softmax(1).amax(1))
    other = saliency(network, images, "gradient", target=[3, "7"], check=False)
    assert other.targets.tolist() == [3, 7]
    assert not torch.equal(other.maps, own.maps)
    assert "7? " in str(other)


def test_what_does_not_exist() -> None:
    network, images = subjects.build("lenet5"), subjects.pictures("lenet5", 1)
    with pytest.raises(st.NetworkError, match=r"No method of saliency named 'gradcam'\. Did you mean 'grad_cam'\?"):
        saliency(network, images, "gradcam")
    with pytest.raises(st.DataError, match="no class 'cat'"):
        saliency(network, images, target="cat")
    with pytest.raises(st.NetworkError, match="Only 'grad_cam' reads a layer; leave layer='c3' out for 'gradient'"):
        saliency(network, images, "gradient", layer="c3")
    with pytest.raises(st.NetworkError, match="Did you mean 'c3'"):
        saliency(network, images, layer="c33")
    with pytest.raises(st.NetworkError, match=r"Grad-CAM needs .* need none: 'gradient', "):
        saliency(subjects.build("feedforward1"), images, "grad_cam")


def test_a_layer_of_ones_own() -> None:
    found = saliency(subjects.build("lenet5"), subjects.pictures("lenet5", 1), layer="c1", check=False)
    assert found.layer is not None
    assert found.layer.size == (28, 28)
    assert "on c1 (28×28 units" in str(found)
