from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from striate.inspection.backward import Rectified, Rule

Values = NDArray[np.float64]


def _statement(values: Tensor) -> Tensor:
    values.relu_()
    return values


def _torch_statement(values: Tensor) -> Tensor:
    torch.relu_(values)
    return values


WRITTEN: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.relu": torch.relu,
    "Tensor.relu": lambda values: values.relu(),
    "F.relu": F.relu,
    "F.relu by name": lambda values: F.relu(input=values),
    "nn.ReLU": nn.ReLU(),
    "torch.relu_": torch.relu_,
    "torch.relu_ as a statement": _torch_statement,
    "Tensor.relu_": lambda values: values.relu_(),
    "Tensor.relu_ as a statement": _statement,
    "F.relu_": F.relu_,
    "F.relu inplace": lambda values: F.relu(values, inplace=True),
    "F.relu inplace by position": lambda values: F.relu(values, True),
    "nn.ReLU inplace": nn.ReLU(inplace=True),
}


def _passed(rule: Rule, gradient: Values, values: Values) -> Values:
    """What each rule lets through, as the papers write it."""
    passed = np.zeros_like(gradient)
    for place in np.ndindex(gradient.shape):
        through = {
            "gradient": values[place] > 0,
            "deconvolution": gradient[place] > 0,
            "guided": values[place] > 0 and gradient[place] > 0,
        }[rule]
        passed[place] = gradient[place] if through else 0.0
    return passed


@pytest.mark.parametrize("rule", ["gradient", "deconvolution", "guided"])
@pytest.mark.parametrize("written", WRITTEN)
def test_every_way_of_writing_relu(written: str, rule: Rule) -> None:
    """x → A x → ReLU → B, backwards by hand in float64."""
    generator = np.random.default_rng(0)
    a, b, x = generator.normal(size=(7, 5)), generator.normal(size=(3, 7)), generator.normal(size=(4, 5))
    asked = generator.normal(size=(4, 3))
    inputs = torch.from_numpy(x).requires_grad_()
    with Rectified(rule):
        hidden = inputs @ torch.from_numpy(a).T
        outputs = WRITTEN[written](hidden) @ torch.from_numpy(b).T
        (found,) = torch.autograd.grad((outputs * torch.from_numpy(asked)).sum(), inputs)
    values = x @ a.T
    np.testing.assert_allclose(outputs.detach().numpy(), np.maximum(values, 0) @ b.T, atol=1e-12)
    np.testing.assert_allclose(found.numpy(), _passed(rule, asked @ b, values) @ a, atol=1e-12)


def test_the_rules_differ() -> None:
    """Were the reference above to ignore the rule, this would tell."""
    found = {}
    for rule in ("gradient", "deconvolution", "guided"):
        values = torch.tensor([-1.0, -1.0, 1.0, 1.0]).requires_grad_()
        with Rectified(rule):
            torch.relu(values).backward(torch.tensor([-2.0, 2.0, -2.0, 2.0]))
        assert values.grad is not None
        found[rule] = values.grad.tolist()
    assert found == {"gradient": [0, 0, -2, 2], "deconvolution": [0, 2, 0, 2], "guided": [0, 0, 0, 2]}


def test_through_convolution_and_max_pooling_in_place() -> None:
    """Two layers deep, against loops over unpooling and transposed convolution in float64."""
    generator = np.random.default_rng(1)
    kernel, x = generator.normal(size=(3, 3)), generator.normal(size=(6, 6))
    inputs = torch.from_numpy(x)[None, None].requires_grad_()
    with Rectified("deconvolution"):
        maps = F.conv2d(inputs, torch.from_numpy(kernel)[None, None])
        pooled = F.max_pool2d(F.relu(maps.mul(1), inplace=True), 2)
        asked = (pooled * torch.tensor([[1.0, -1.0], [2.0, 3.0]], dtype=torch.float64)).sum()
        (found,) = torch.autograd.grad(asked, inputs)
    convolved = np.array([[(x[i : i + 3, j : j + 3] * kernel).sum() for j in range(4)] for i in range(4)])
    unpooled, back = np.zeros((4, 4)), np.zeros((6, 6))
    for (i, j), signal in np.ndenumerate(np.array([[1.0, -1.0], [2.0, 3.0]])):
        window = np.maximum(convolved[2 * i : 2 * i + 2, 2 * j : 2 * j + 2], 0)
        row, column = np.unravel_index(window.argmax(), (2, 2))
        unpooled[2 * i + row, 2 * j + column] = max(signal, 0)
    for (i, j), signal in np.ndenumerate(unpooled):
        back[i : i + 3, j : j + 3] += signal * kernel
    np.testing.assert_allclose(found[0, 0].numpy(), back, atol=1e-12)


def test_the_rule_ends_with_its_block_even_when_it_raises() -> None:
    with pytest.raises(ValueError, match="midway"), Rectified("guided"):
        raise ValueError("midway")
    values = torch.tensor([1.0]).requires_grad_()
    torch.relu(values).backward(torch.tensor([-1.0]))
    assert values.grad is not None
    assert values.grad.item() == -1


def test_other_functions_are_left_alone() -> None:
    values = torch.tensor([-1.0, 1.0]).requires_grad_()
    with Rectified("guided"):
        torch.tanh(values).backward(torch.tensor([-1.0, -1.0]))
    np.testing.assert_allclose(values.grad, -(1 - np.tanh([-1.0, 1.0]) ** 2), rtol=1e-6)  # type: ignore[arg-type]


def test_it_works_where_no_gradient_is_wanted() -> None:
    with Rectified("deconvolution"), torch.no_grad():
        values = torch.tensor([-1.0, 2.0])
        assert F.relu_(values) is values
    assert values.tolist() == [0, 2]
