"""Stages of networks, and new weights for some of them."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations
from toy_networks import Plain, pictures, seeded

import seewhy
from seewhy.errors import InputError, LayerError, NotApplicableError
from seewhy.network.network import Network
from seewhy.network.reinitialise import recompute_statistics, reinitialise
from seewhy.network.stages import MOST, Stage, find_stages, parametrised
from seewhy.network.surveys import surveyed
from seewhy.targets import as_target


def stages(module: nn.Module, names=None, size: int = 16):
    network = Network.of(module)
    with network.prepared(pictures(1, size)) as arguments:
        return find_stages(network.module, surveyed(network, arguments, as_target(None))[0], names)


def test_stages_run_from_the_classifier_to_the_input_with_their_normalisation() -> None:
    assert stages(seeded(Plain)) == (
        Stage("fc", ("fc",)),
        Stage("conv2", ("conv2", "norm2")),
        Stage("conv1", ("conv1", "norm1")),
    )


def test_the_order_is_that_of_the_calls() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(4, 2), nn.Conv2d(3, 4, 3)

        def forward(self, x):
            return self.last(self.first(x).mean((2, 3)))

    assert [each.name for each in stages(Backwards())] == ["last", "first"]


class Block(nn.Module):
    """A residual block with a scale of its own."""

    def __init__(self, scaled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        if scaled:
            self.scale = nn.Parameter(torch.tensor([0.1, 0.3, -0.2, 0.4]).view(4, 1, 1))

    def forward(self, x):
        return x + self.conv(x) * getattr(self, "scale", 1)


class Deep(nn.Module):
    def __init__(self, count: int, scaled: bool = False) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.tensor([1.0, -1, 2, 0.5]).view(4, 1, 1))
        self.stem = nn.Conv2d(3, 4, 1)
        self.blocks = nn.Sequential(*(Block(scaled) for _ in range(count)))
        self.unused = nn.Linear(2, 2)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.blocks(self.stem(x) + self.token).mean((2, 3)))


def test_a_network_is_taken_apart_as_long_as_there_are_few_stages() -> None:
    assert [each.name for each in stages(Deep(MOST + 1))] == ["head", "blocks", "stem"]
    assert [each.name for each in stages(Deep(2))] == ["head", "blocks.1.conv", "blocks.0.conv", "stem"]
    assert [each.name for each in stages(Deep(2, True))] == ["head", "blocks.1", "blocks.0", "stem"]


@pytest.mark.parametrize("scaled", [False, True])
def test_every_parameter_is_in_exactly_one_stage(scaled) -> None:
    module = Deep(2, scaled)
    modules = dict(module.named_modules())
    held = [
        id(parameter)
        for stage in stages(module)
        for each in parametrised(modules, stage)
        for parameter in each.parameters(recurse=False)
    ]
    assert sorted(held) == sorted(id(each) for each in module.parameters())


def test_the_bundled_network_has_a_stage_per_convolution() -> None:
    found = [each.name for each in stages(seewhy.load("demo").module, size=32)]
    assert found[0] == "classifier"
    assert found[-1] == "stem.0"
    assert len(found) == 8


def test_stages_can_be_named_and_wrong_names_are_told() -> None:
    module = Deep(2)
    assert [each.name for each in stages(module, ["stem", "head"])] == ["head", "stem"]
    with pytest.raises(LayerError, match=r"no module 'stam'.*stem, blocks, unused, head"):
        stages(module, ["stam"])
    with pytest.raises(LayerError, match="'unused' is not called"):
        stages(module, ["unused"])
    with pytest.raises(InputError, match=r"'blocks.0' lies in stage 'blocks'"):
        stages(module, ["blocks", "blocks.0"])
    with pytest.raises(InputError, match="list of module names"):
        stages(module, "stem")


def test_a_network_without_parameters_has_no_stages() -> None:
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(NotApplicableError, match="no parameters"):
        stages(Mean())


def test_the_same_seed_gives_the_same_weights_and_leaves_the_random_state() -> None:
    first, second = Network(seeded(Plain)), Network(seeded(Plain))
    before = torch.random.get_rng_state()
    for network in (first, second):
        reinitialise(network, [network.module.conv1], "3")
    assert torch.equal(before, torch.random.get_rng_state())
    assert torch.equal(first.module.conv1.weight, second.module.conv1.weight)
    assert not torch.equal(first.module.conv1.weight, seeded(Plain).conv1.weight)
    assert first.module.conv1.weight.requires_grad
    reinitialise(second, [second.module.conv1], "4")
    assert not torch.equal(first.module.conv1.weight, second.module.conv1.weight)


def test_only_the_modules_asked_for_change() -> None:
    network, old = Network(seeded(Plain)), seeded(Plain).state_dict()
    reinitialise(network, [network.module.conv2], "0")
    changed = {name for name, each in network.module.state_dict().items() if not torch.equal(each, old[name])}
    assert changed == {"conv2.weight", "conv2.bias"}


def test_a_normalisation_forgets_its_affine_and_keeps_its_statistics() -> None:
    network, old = Network(seeded(Plain)), seeded(Plain).norm1
    reinitialise(network, [network.module.norm1], "0")
    new = network.module.norm1
    assert torch.equal(new.weight, torch.ones(6))
    assert torch.equal(new.bias, torch.zeros(6))
    assert torch.equal(new.running_mean, old.running_mean)
    assert torch.equal(new.running_var, old.running_var)


def test_parameters_without_an_initialiser_get_noise_of_the_same_strength() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(4000, generator=torch.Generator().manual_seed(0)) * 3)
            self.gain, self.none = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(5))

    module = Tokens()
    old = module.token.detach().clone()
    reinitialise(Network(module), [module], "0")
    assert float(module.token.detach().std()) == pytest.approx(3, rel=0.1)
    assert abs(torch.corrcoef(torch.stack([old, module.token.detach()]))[0, 1]) < 0.06
    assert module.gain.item() not in (0, 2)
    assert not module.none.any()


def test_what_lies_behind_a_weight_normalisation_changes_too() -> None:
    module = nn.Sequential(parametrizations.weight_norm(nn.Conv2d(3, 4, 3)))
    old = module[0].weight.detach().clone()
    reinitialise(Network(module), list(module.modules())[1:], "0")
    assert torch.corrcoef(torch.stack([old.flatten(), module[0].weight.detach().flatten()]))[0, 1].abs() < 0.4


def test_tied_weights_of_another_stage_stay() -> None:
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))

    class Greedy(nn.Linear):
        def reset_parameters(self) -> None:
            super().reset_parameters()
            if hasattr(self, "neighbour"):
                self.neighbour[0].reset_parameters()

    greedy = Greedy(3, 3)
    greedy.neighbour = [module[0]]
    module.append(greedy)
    old = module[0].weight.detach().clone()
    reinitialise(Network(module), [greedy], "0")
    assert torch.equal(module[0].weight, old)


def test_recomputed_statistics_are_those_of_the_pictures() -> None:
    network, images = Network(seeded(Plain)), pictures(5)
    with network.prepared(images) as arguments:
        pass
    recompute_statistics(network, arguments)
    module = network.module
    inside = module.conv1(images).detach().transpose(0, 1).flatten(1)
    torch.testing.assert_close(module.norm1.running_mean, inside.mean(1))
    torch.testing.assert_close(module.norm1.running_var, inside.var(1))
    assert module.norm1.momentum == 0.1
    assert not module.norm1.training
