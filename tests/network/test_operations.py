from __future__ import annotations

import operator
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from toy_networks import network, pictures

from seewhy.network.operations import Computation, Operation, intercept, operation_of

MAP = torch.arange(48.0).reshape(1, 3, 4, 4) / 48 - 0.5
MATRIX = torch.arange(12.0).reshape(3, 4) / 12 - 0.5

COMPUTED: list[tuple[str, Operation, Callable[[], Tensor]]] = [
    ("conv module", Operation.CONVOLUTION, lambda: nn.Conv2d(3, 2, 3)(MAP)),
    ("F.conv2d", Operation.CONVOLUTION, lambda: F.conv2d(MAP, torch.ones(2, 3, 1, 1))),
    ("transposed", Operation.CONVOLUTION, lambda: nn.ConvTranspose2d(3, 2, 3)(MAP)),
    ("linear module", Operation.LINEAR, lambda: nn.Linear(4, 2)(MATRIX)),
    ("@", Operation.MATRIX_PRODUCT, lambda: MATRIX @ MATRIX.T),
    ("matmul", Operation.MATRIX_PRODUCT, lambda: torch.matmul(MATRIX, MATRIX.T)),
    ("einsum", Operation.MATRIX_PRODUCT, lambda: torch.einsum("ij,kj->ik", MATRIX, MATRIX)),
    (
        "attention",
        Operation.MATRIX_PRODUCT,
        lambda: F.scaled_dot_product_attention(MATRIX[None], MATRIX[None], MATRIX[None]),
    ),
    ("relu module", Operation.RELU, lambda: nn.ReLU()(MAP)),
    ("in-place relu module", Operation.RELU, lambda: nn.ReLU(inplace=True)(MAP.clone())),
    ("F.relu", Operation.RELU, lambda: F.relu(MAP)),
    ("F.relu_", Operation.RELU, lambda: F.relu_(MAP.clone())),
    ("torch.relu", Operation.RELU, lambda: torch.relu(MAP)),
    (".relu()", Operation.RELU, lambda: MAP.relu()),
    (".relu_()", Operation.RELU, lambda: MAP.clone().relu_()),
    ("relu6", Operation.ACTIVATION, lambda: nn.ReLU6()(MAP)),
    ("gelu", Operation.ACTIVATION, lambda: nn.GELU()(MAP)),
    ("silu", Operation.ACTIVATION, lambda: nn.SiLU(inplace=True)(MAP.clone())),
    ("hardswish", Operation.ACTIVATION, lambda: nn.Hardswish()(MAP)),
    ("sigmoid", Operation.ACTIVATION, lambda: MAP.sigmoid()),
    ("clamp", Operation.ACTIVATION, lambda: MAP.clamp(min=0)),
    ("+", Operation.ADD, lambda: MAP + MAP),
    ("1 +", Operation.ADD, lambda: 1 + MAP),
    ("+=", Operation.ADD, lambda: operator.iadd(MAP.clone(), MAP)),
    ("torch.add", Operation.ADD, lambda: torch.add(MAP, MAP)),
    (".add_", Operation.ADD, lambda: MAP.clone().add_(1)),
    ("-", Operation.ADD, lambda: MAP - MAP),
    ("1 -", Operation.ADD, lambda: 1 - MAP),
    ("-=", Operation.ADD, lambda: operator.isub(MAP.clone(), MAP)),
    ("*", Operation.MULTIPLY, lambda: MAP * MAP),
    ("2 *", Operation.MULTIPLY, lambda: 2 * MAP),
    ("*=", Operation.MULTIPLY, lambda: operator.imul(MAP.clone(), MAP)),
    ("/", Operation.MULTIPLY, lambda: MAP / 2),
    ("/=", Operation.MULTIPLY, lambda: operator.itruediv(MAP.clone(), 2)),
    ("torch.mul", Operation.MULTIPLY, lambda: torch.mul(MAP, MAP)),
    ("cat", Operation.CONCATENATE, lambda: torch.cat([MAP, MAP])),
    ("stack", Operation.CONCATENATE, lambda: torch.stack([MAP, MAP])),
    ("max pool module", Operation.MAX_POOL, lambda: nn.MaxPool2d(2)(MAP)),
    ("F.max_pool2d", Operation.MAX_POOL, lambda: F.max_pool2d(MAP, 2)),
    ("adaptive max pool", Operation.MAX_POOL, lambda: nn.AdaptiveMaxPool2d(1)(MAP)),
    ("amax", Operation.MAX_POOL, lambda: MAP.amax((2, 3))),
    ("average pool module", Operation.AVERAGE_POOL, lambda: nn.AvgPool2d(2)(MAP)),
    ("adaptive average pool", Operation.AVERAGE_POOL, lambda: nn.AdaptiveAvgPool2d(1)(MAP)),
    ("mean", Operation.AVERAGE_POOL, lambda: MAP.mean((2, 3))),
    ("batch norm", Operation.BATCH_NORM, lambda: nn.BatchNorm2d(3).eval()(MAP)),
    ("layer norm", Operation.LAYER_NORM, lambda: nn.LayerNorm(4)(MAP)),
    ("group norm", Operation.GROUP_NORM, lambda: nn.GroupNorm(3, 3)(MAP)),
    ("softmax", Operation.SOFTMAX, lambda: MATRIX.softmax(1)),
    ("log softmax", Operation.SOFTMAX, lambda: F.log_softmax(MATRIX, 1)),
    ("dropout", Operation.DROPOUT, lambda: nn.Dropout()(MATRIX)),
]
each = pytest.mark.parametrize(
    ("operation", "compute"), [case[1:] for case in COMPUTED], ids=[name for name, _, _ in COMPUTED]
)


@each
def test_an_operation_is_intercepted_once_however_it_is_written(operation, compute):
    seen: list[Computation] = []
    rules = {kind: lambda computation: (seen.append(computation), computation.run())[1] for kind in Operation}
    with intercept(rules):
        compute()
    assert [computation.operation for computation in seen] == [operation]


@each
def test_a_rule_s_answer_is_the_result(operation, compute):
    answer = torch.tensor(7.0)
    with intercept({operation: lambda computation: answer}):
        assert compute() is answer


@pytest.mark.parametrize("name", ["plain", "in-place relu", "residual", "dense", "class token", "lstm head"])
def test_rules_that_run_the_computation_change_nothing(name):
    module, image = network(name), pictures()
    with torch.no_grad():
        expected = module(image)
        with intercept(dict.fromkeys(Operation, Computation.run)):
            # Torch takes its fused attention only where nothing is intercepted; they differ by rounding.
            assert torch.allclose(module(image), expected, atol=1e-6)


def test_inside_a_rule_nothing_is_intercepted():
    calls: list[str] = []

    def rule(computation: Computation) -> Tensor:
        calls.append(computation.operation.value)
        return torch.relu(torch.relu(MAP)) + computation.run()

    with intercept({Operation.RELU: rule, Operation.ADD: rule}):
        MAP.relu()
    assert calls == ["relu"]


def test_outside_the_block_nothing_is_intercepted():
    calls: list[Computation] = []
    with intercept({Operation.RELU: lambda computation: calls.append(computation)}):
        pass
    MAP.relu()
    assert calls == []


def test_a_rule_s_answer_is_differentiated():
    """Guided backpropagation in one line: gradients that are negative are dropped at every ReLU."""

    class Guided(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.clamp_min(0)

        @staticmethod
        def backward(ctx, gradient):
            return gradient.clamp_min(0) * (ctx.saved_tensors[0] > 0)

    module, image = network("plain"), pictures().requires_grad_()
    with intercept({Operation.RELU: lambda computation: Guided.apply(computation.args[0])}):
        found = torch.autograd.grad(module(image)[:, 1].sum(), image)[0]
    module.relu1.register_full_backward_hook(lambda _, given, __: (given[0].clamp_min(0),))
    module.relu2.register_full_backward_hook(lambda _, given, __: (given[0].clamp_min(0),))
    expected = torch.autograd.grad(module(image)[:, 1].sum(), image)[0]
    assert torch.allclose(found, expected, atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("compute", "written"),
    [
        (lambda: MAP.clone().relu_(), True),
        (lambda: F.relu(MAP.clone(), inplace=True), True),
        (lambda: nn.ReLU(inplace=True)(MAP.clone()), True),
        (lambda: operator.iadd(MAP.clone(), 1), True),
        (lambda: MAP.relu(), False),
        (lambda: MAP + 1, False),
        (lambda: 1 - MAP, False),
        (lambda: nn.ReLU()(MAP), False),
    ],
)
def test_in_place_computations_are_known_as_such(compute, written):
    seen: list[bool] = []
    note = lambda computation: (seen.append(computation.in_place), computation.run())[1]  # noqa: E731
    with intercept({Operation.RELU: note, Operation.ADD: note}):
        compute()
    assert seen == [written]


def test_functions_of_no_kind_have_none():
    assert operation_of(torch.sort) is None
    assert operation_of(torch.relu) is Operation.RELU
