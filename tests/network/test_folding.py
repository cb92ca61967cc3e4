"""Folded batch norms give what the network gives, and whatever else reads a convolution keeps it as it is."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import seewhy
from seewhy.network.folding import Folding, folds_in
from seewhy.network.kept_weights import KeptWeights
from seewhy.network.precision import fast_in_bfloat16


def shaken(module: nn.Module) -> nn.Module:
    """The network with statistics that a fold must not forget."""
    generator = torch.Generator().manual_seed(0)
    for each in module.modules():
        if isinstance(each, nn.modules.batchnorm._BatchNorm):
            for tensor in (each.running_mean, each.running_var, each.weight, each.bias):
                if tensor is not None:
                    tensor.data.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return module.eval()


class Net(nn.Module):
    """Two convolutions, each with its norm; subclasses put something in between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, bias=False)
        self.norm, self.last = nn.BatchNorm2d(4), nn.BatchNorm2d(5, affine=False)

    def forward(self, x: Tensor) -> object:
        return self.last(self.second(self.norm(self.first(x)).relu()))


class Residual(Net):
    def forward(self, x: Tensor) -> object:
        convolved = self.first(x)
        return self.last(self.second(self.norm(convolved) + convolved))


class Returned(Net):
    def forward(self, x: Tensor) -> object:
        convolved = self.first(x)
        return {"early": convolved, "late": self.last(self.second(self.norm(convolved)))}


class InPlace(Net):
    def forward(self, x: Tensor) -> object:
        return self.last(self.second(self.norm(F.relu(self.first(x), inplace=True))))


class Standardised(Net):
    def forward(self, x: Tensor) -> object:
        weight = self.first.weight / self.first.weight.norm()
        return self.last(self.second(self.norm(F.conv2d(x, weight))))


class OwnStatistics(Net):
    def forward(self, x: Tensor) -> object:
        return self.last(self.second(F.batch_norm(self.first(x), None, None, training=True)))


class Named(Net):
    def forward(self, x: Tensor) -> object:
        convolved = F.conv2d(input=x, bias=self.first.bias, weight=self.first.weight)
        return self.last(self.second(self.norm(input=convolved)))


def values(outputs: object) -> list[Tensor]:
    return list(outputs.values()) if isinstance(outputs, dict) else [outputs]


@pytest.mark.parametrize(
    ("kind", "folded"),
    [(Net, [0, 1]), (Named, [0, 1])]
    + [(each, [1]) for each in (Residual, Returned, InPlace, Standardised, OwnStatistics)],
)
def test_only_what_a_norm_alone_reads_is_folded_and_the_answers_stay(kind, folded) -> None:
    torch.manual_seed(0)
    net, pictures = shaken(kind()).double(), torch.randn(2, 3, 9, 11).double()
    folds = folds_in(net, lambda: net(pictures))
    assert [number for number, fold in folds.items() if fold.norm is not None] == folded

    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.inference_mode():
        found = Folding(net, folds, KeptWeights(net, "")).run(lambda: net(pictures))
        for one, other in zip(values(found), values(net(pictures)), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


class Fickle(Net):
    """Does something else from the second pass on."""

    def __init__(self, change: str) -> None:
        super().__init__()
        self.change, self.passes = change, 0

    def forward(self, x: Tensor) -> object:
        self.passes += 1
        convolved = self.first(x)
        if self.passes > 1 and self.change == "another reader":
            return self.norm(convolved) + convolved
        if self.passes > 1 and self.change == "no norm":
            return self.second(convolved.relu())
        if self.passes > 1 and self.change == "dropped":
            return self.second(x.new_ones(1, 4, 5, 5))
        if self.passes > 1 and self.change == "other weights":
            return self.norm(F.conv2d(x, 2 * self.first.weight))
        return self.norm(convolved)


@pytest.mark.parametrize("change", ["another reader", "no norm", "dropped", "other weights"])
def test_a_pass_that_computes_something_else_is_run_as_it_is(change) -> None:
    torch.manual_seed(0)
    net, pictures = shaken(Fickle(change)), torch.randn(2, 3, 9, 9)
    folds = folds_in(net, lambda: net(pictures))
    assert sorted(folds) == [0]
    folding = Folding(net, folds, KeptWeights(net, ""))
    with torch.inference_mode():
        assert torch.equal(folding.run(lambda: net(pictures)), net(pictures))
        assert torch.equal(folding.run(lambda: net(pictures)), net(pictures))


def test_the_norms_of_a_network_in_training_are_left_alone() -> None:
    net = Net().train()
    folds = folds_in(net, lambda: net(torch.randn(4, 3, 9, 9)))
    assert all(fold.norm is None for fold in folds.values())


def test_weights_that_change_are_folded_anew() -> None:
    net = shaken(Net())
    network = seewhy.Network(net)
    pictures = torch.randn(2, 3, 9, 9)
    folds = folds_in(net, lambda: net(pictures))
    for factor in (1, 3):
        net.first.weight.data *= factor
        folding = Folding(net, folds, KeptWeights(net, network.digest))
        with torch.inference_mode():
            torch.testing.assert_close(folding.run(lambda: net(pictures)), net(pictures))


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_weights_that_were_laid_out_for_one_size_serve_all(dimensions):
    net = convolution(dimensions, padding=1)
    kept = KeptWeights(net, "")
    for batch, side in [(1, 9), (8, 9), (3, 40), (1, 1)]:
        pictures = torch.randn(batch, 4, *[side] * dimensions)
        folds = folds_in(net, lambda pictures=pictures: net(pictures))
        with torch.inference_mode():
            found = Folding(net, folds, kept).run(lambda pictures=pictures: net(pictures))
            torch.testing.assert_close(found, net(pictures), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("norm", [True, False])
def test_what_is_not_a_number_is_not_hidden(norm):
    net = convolution(2)
    net = nn.Sequential(net[0], *([net[1]] if norm else []), nn.ReLU())
    pictures = torch.randn(2, 4, 9, 9)
    pictures[1, 2, 3, 4] = torch.nan
    with torch.inference_mode():
        found = Folding(net, folds_in(net, lambda: net(pictures)), KeptWeights(net, "")).run(
            lambda: net(pictures)
        )
        assert torch.equal(found.isnan(), net(pictures).isnan())
    assert found.isnan().any()


def in_bfloat16(net: nn.Module, pictures: Tensor, folded: bool) -> Tensor:
    folds = folds_in(net, lambda: net(pictures)) if folded else {}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        return Folding(net, folds, KeptWeights(net, "")).run(lambda: net(pictures))


def convolution(dimensions: int, **options: object) -> nn.Module:
    """One convolution and its norm, whose mean no bfloat16 is near to."""
    torch.manual_seed(0)
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    norm = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)[dimensions - 1]
    net = shaken(nn.Sequential(kind(4, 6, 3, **options), norm(6)))
    net[1].running_mean += 100.2
    return net


@pytest.mark.skipif(not fast_in_bfloat16("cpu"), reason="the processor is not fast in bfloat16")
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1, "groups": 2}, {"dilation": 2, "bias": False}]
)
def test_in_bfloat16_only_weights_and_answers_are_rounded_not_what_the_norm_subtracts(dimensions, options):
    net, pictures = (
        convolution(dimensions, **options),
        torch.randn(2, 4, *[9] * dimensions).bfloat16().float(),
    )
    found = in_bfloat16(net, pictures, folded=True)
    own, norm = net
    factor = (norm.running_var.double() + norm.eps).rsqrt() * norm.weight
    weight = (own.weight * factor.view(-1, *[1] * (dimensions + 1))).bfloat16().double()
    bias = ((0 if own.bias is None else own.bias) - norm.running_mean.double()) * factor + norm.bias
    # Calling the layer's own function with other operands says in float64 what is then rounded once.
    exact = own._conv_forward(pictures.double(), weight, bias)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.double(), exact, rtol=2**-8, atol=1e-4)


@pytest.mark.skipif(not fast_in_bfloat16("cpu"), reason="the processor is not fast in bfloat16")
def test_what_a_network_computes_in_its_own_number_format_stays_in_it():
    own = convolution(2)

    class Guarded(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())

    class Lower(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cpu", torch.bfloat16):
                return super().forward(x)

    pictures = torch.randn(2, 4, 9, 9)
    assert in_bfloat16(Guarded(*own), pictures, folded=True).dtype == torch.float32
    net = Lower(*own)
    folds = folds_in(net, lambda: net(pictures))
    with torch.inference_mode():
        found = Folding(net, folds, KeptWeights(net, "")).run(lambda: net(pictures))
    assert torch.equal(found, in_bfloat16(own, pictures, folded=True))


@pytest.mark.skipif(not fast_in_bfloat16("cpu"), reason="the processor is not fast in bfloat16")
@pytest.mark.parametrize("stride", [np.int64(2), torch.tensor(2), (2, 1)])
def test_a_stride_may_be_given_in_any_form(stride):
    class Functional(Net):
        def forward(self, x: Tensor) -> Tensor:
            return self.norm(F.conv2d(x, self.first.weight, self.first.bias, stride))

    net, pictures = shaken(Functional()), torch.randn(2, 3, 9, 9)
    expected = in_bfloat16(net, pictures, folded=False)
    torch.testing.assert_close(in_bfloat16(net, pictures, folded=True), expected, rtol=0.02, atol=0.02)


def test_in_bfloat16_what_cannot_be_given_an_exact_bias_is_run_as_it_is(monkeypatch):
    pictures = torch.randn(2, 4, 9, 9)
    padded = convolution(2, padding="same")
    assert torch.equal(
        in_bfloat16(padded, pictures, folded=True), in_bfloat16(padded, pictures, folded=False)
    )
    monkeypatch.setattr("seewhy.network.folding.fast_in_bfloat16", lambda _: False)
    net = convolution(2)
    assert torch.equal(in_bfloat16(net, pictures, folded=True), in_bfloat16(net, pictures, folded=False))


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "googlenet"])
def test_real_networks_are_folded_whole(name) -> None:
    torch.manual_seed(0)
    net = shaken(seewhy.load(f"torchvision:{name}", weights="random").module)
    pictures = torch.randn(2, 3, 64, 64)
    folds = folds_in(net, lambda: net(pictures))
    convolutions = sum(isinstance(each, nn.Conv2d) for each in net.modules())
    squeezers = 18 if name == "mobilenet_v3_small" else 0  # without a norm
    heads = 2 if name == "googlenet" else 0  # run in training only
    assert len(folds) == convolutions - heads
    assert sum(fold.norm is not None for fold in folds.values()) == convolutions - squeezers - heads
    with torch.inference_mode():
        found = Folding(net, folds, KeptWeights(net, "")).run(lambda: net(pictures))
        torch.testing.assert_close(
            found, net(pictures), rtol=1e-4, atol=1e-5 * float(net(pictures).abs().max())
        )
