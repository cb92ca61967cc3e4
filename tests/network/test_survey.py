from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from toy_networks import NETWORKS, Folded, Plain, Siamese, Transformer, network, pictures, seeded

from seewhy.network.inputs import Arguments
from seewhy.network.network import Network
from seewhy.network.structures import tensors
from seewhy.network.survey import BatchAxis, Survey, noisy_pair
from seewhy.network.surveys import surveyed
from seewhy.targets import Predicted, Target


def survey_of(module: nn.Module, inputs=None, target: Target | None = None) -> Survey:
    wrapped = Network(module)
    with wrapped.prepared(pictures() if inputs is None else inputs) as arguments:
        return surveyed(wrapped, arguments, target or Predicted())[0]


def first(survey: Survey, name: str):
    return survey.of(name)[0]


def test_calls_are_listed_in_the_order_in_which_they_end():
    survey = survey_of(seeded(Plain))
    names = [call.name for call in survey.calls]
    assert names == ["conv1", "norm1", "relu1", "pool", "conv2", "norm2", "relu2", "drop", "fc", ""]


def test_every_call_of_a_shared_module_is_told_apart():
    survey = survey_of(network("shared modules"))
    assert [call.index for call in survey.of("act")] == [0, 1, 2]
    assert [call.index for call in survey.of("block")] == [0, 1]


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_those_that_hooks_see_for_one_picture(name):
    if name == "u-net":
        pytest.skip("its outputs need a target of their own")
    module, seen = network(name), []
    for each in module.modules():
        each.register_forward_hook(
            lambda _, __, output: seen.append([tuple(t.shape) for t in tensors(output)])
        )
    with torch.no_grad():
        module(pictures(1))
    for each in module.modules():
        each._forward_hooks.clear()
    target = Predicted(output="scores") if name == "dataclass output" else None
    survey = survey_of(module, target=target)
    assert Counter(call.shapes for call in survey.calls) == Counter(map(tuple, seen))


@pytest.mark.parametrize("name", ["plain", "class token", "sequence first", "channels last", "residual"])
def test_used_and_ignored_positions_agree_with_finite_differences(name):
    module = network(name)
    survey = survey_of(module)
    image = pictures(1, seed=3)
    with torch.no_grad():
        target = int(module(image).argmax())
    checked = set()
    for call in survey.calls:
        if call.layout is None or not call.name or call.passes_on or call.source != survey.calls.index(call):
            continue
        # Something else at all positions, nothing else at prefix tokens.
        generator = torch.Generator().manual_seed(1)

        def change(_, __, output, call=call, generator=generator):
            tensor = output[0] if isinstance(output, tuple) else output
            maps = call.layout.maps(tensor)
            changed = call.layout.replace(tensor, maps + torch.randn(maps.shape, generator=generator))
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        with torch.no_grad():
            before = module(image)[0, target]
            handle = module.get_submodule(call.name).register_forward_hook(change)
            after = module(image)[0, target]
            handle.remove()
        depends = bool((after - before).abs() > 1e-6)
        assert call.positions == ("used" if depends else "ignored"), call.name
        checked.add(call.positions)
    assert "used" in checked


def test_the_last_block_of_a_class_token_network_ignores_its_patches():
    survey = survey_of(seeded(Transformer))
    assert first(survey, "blocks.1").positions == "ignored"
    assert first(survey, "blocks.1.norm1").positions == "used"


@pytest.mark.parametrize(
    ("name", "layer", "axis"),
    [
        ("plain", "relu2", BatchAxis(0)),
        ("sequence first", "norm", BatchAxis(1)),
        ("class token", "position", BatchAxis(None)),
        ("frames, picture by picture", "frame", BatchAxis(0, 3, True)),
        ("frames, time by time", "frame", BatchAxis(0, 3, False)),
    ],
)
def test_the_batch_axis_is_learned(name, layer, axis):
    assert first(survey_of(network(name)), layer).axes == (axis,)


@pytest.mark.parametrize("picture_major", [True, False])
def test_folded_batches_expand_like_a_forward_of_the_repeated_pictures(picture_major):
    module, image = seeded(lambda: Folded(picture_major)), pictures(3)
    axis = first(survey_of(module, image), "frame").axes[0]
    outputs: list[Tensor] = []
    module.frame.register_forward_hook(lambda _, __, output: outputs.append(output))
    rows = torch.tensor([2, 0, 0, 1])
    with torch.no_grad():
        module(image), module(image[rows])
    assert torch.allclose(axis.expand(outputs[0], rows), outputs[1], atol=1e-6)  # batch size changes rounding


def test_expanding_a_table_without_a_batch_gives_a_copy():
    table = torch.rand(4, 2)
    expanded = BatchAxis(None).expand(table, torch.tensor([0, 0, 1]))
    assert torch.equal(expanded, table)
    assert expanded.data_ptr() != table.data_ptr()


@pytest.mark.parametrize("name", ["frozen backbone", "inference-mode backbone"])
def test_a_backbone_without_a_graph_is_used_at_its_end_and_ignored_inside(name):
    survey = survey_of(network(name))
    assert first(survey, "backbone").positions == "used"
    assert first(survey, "backbone.1").positions == "ignored"


def test_in_place_activations_are_maps_of_their_own_and_wrappers_share_theirs():
    survey = survey_of(network("in-place relu"))
    places = {call.name: place for place, call in enumerate(survey.calls)}
    assert first(survey, "relu2").source == places["relu2"]
    shared = survey_of(network("shared modules"))
    assert shared.calls[first(shared, "stem").source].name == "act"


def test_dropout_in_evaluation_mode_passes_its_input_on():
    survey = survey_of(seeded(Plain))
    assert first(survey, "drop").passes_on
    assert not first(survey, "relu2").passes_on


def test_an_in_place_relu_does_not_pass_its_input_on():
    assert not first(survey_of(network("in-place relu")), "relu2").passes_on


def test_each_call_knows_the_pictures_that_it_depends_on():
    survey = survey_of(seeded(Siamese), (pictures(), pictures(seed=1)))
    assert [call.inputs for call in survey.of("backbone")] == [(0,), (1,)]
    assert first(survey, "fc").inputs == (0, 1)


def test_the_same_tensor_as_both_inputs_is_still_two_inputs():
    image = pictures()
    survey = survey_of(seeded(Siamese), (image, image))
    assert [call.inputs for call in survey.of("backbone")] == [(0,), (1,)]


def test_forwards_are_counted():
    counted: list[int] = []
    module = seeded(Plain)
    module.register_forward_hook(lambda _, __, output: counted.append(len(output)))
    assert survey_of(module).forwards == sum(counted) == 3
    counted.clear()
    module = seeded(Siamese)
    module.register_forward_hook(lambda _, __, output: counted.append(len(output)))
    assert survey_of(module, (pictures(), pictures())).forwards == sum(counted) == 7


def test_black_pictures_and_large_ones_get_noise_of_their_own_strength():
    for image, expected in [(torch.zeros(1, 3, 32, 32), 1.0), (100 * pictures(1, 32), 100.0)]:
        noise = noisy_pair(Arguments.of(image, torch.device("cpu"), torch.float32))[0] - image
        assert float(noise.std()) == pytest.approx(expected, rel=0.05)  # 6,144 draws: 1 % standard error


def test_the_two_noisy_pictures_differ_and_are_always_the_same():
    one, two = (noisy_pair(Arguments.of(pictures(), torch.device("cpu"), torch.float32))[0] for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.allclose(one[0], one[1])


def test_words_are_not_noised():
    arguments = Arguments.of((pictures(), torch.tensor([[1, 2], [3, 4]])), torch.device("cpu"), torch.float32)
    assert noisy_pair(arguments)[1].tolist() == [[1, 2], [1, 2]]


def test_zero_weights_are_surveyed_again():
    module = seeded(Plain)
    with torch.no_grad():
        weight = module.fc.weight.clone()
        module.fc.weight.zero_()
        assert first(survey_of(module), "relu2").positions == "ignored"
        module.fc.weight.copy_(weight)
    assert first(survey_of(module), "relu2").positions == "used"


def test_a_setting_among_the_inputs_has_a_survey_of_its_own():
    class Switch(Plain):
        def forward(self, x: Tensor, deep: bool = True) -> Tensor:
            return (
                super().forward(x)
                if deep
                else self.fc(self.relu1(self.conv1(x)).mean((2, 3)).repeat(1, 2)[:, :8])
            )

    module = seeded(Switch)
    deep, shallow = (survey_of(module, {0: pictures(), "deep": deep}) for deep in (True, False))
    assert deep.of("conv2")
    assert not shallow.of("conv2")
