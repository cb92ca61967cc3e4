from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from toy_networks import Plain, Record, Sigmoid, network, pictures, seeded

import seewhy
from seewhy.errors import InputError, NotApplicableError, TargetError
from seewhy.network.network import Network, main_output

CLASSES = ("tabby, tabby cat", "tiger cat", "crane", "crane", "sports car, sport car", "car wheel", "Boxer")


def named(classes=CLASSES) -> Network:
    return Network(nn.Identity(), classes=classes)


def test_outputs_are_those_of_evaluation_mode_without_a_graph():
    module = seeded(Plain)
    with torch.no_grad():
        expected = module(pictures())
    module.train()
    found = Network(module)(pictures())
    assert torch.equal(found, expected)
    assert not found.requires_grad
    assert module.training


def test_the_digest_is_the_same_for_a_copy_and_for_other_strides():
    module = seeded(Plain)
    digest = Network(module).digest
    assert Network(copy.deepcopy(module)).digest == digest
    assert Network(copy.deepcopy(module).to(memory_format=torch.channels_last)).digest == digest


def test_the_digest_does_not_depend_on_mode_or_gradients():
    module = seeded(Plain)
    digest = Network(module).digest
    module.train().requires_grad_(False)
    assert Network(module).digest == digest


def write(how: str, module: Plain) -> None:
    weight = module.conv1.weight
    with torch.no_grad():
        if how == "in place":
            weight.mul_(2)
        elif how == "through .data":
            weight.data.mul_(2)
        elif how == "a filter pruned":
            weight.data[1] = 0
        elif how == "a filter pruned, channels last":
            module.to(memory_format=torch.channels_last)
            module.conv1.weight.data[1] = 0
        elif how == "a norm through .data":
            module.norm1.weight.data[2] += 1
        elif how == "replaced .data":
            weight.data = weight.data.clone() * 2
        elif how == "a new parameter":
            module.conv1.weight = nn.Parameter(weight * 2)
        elif how == "loaded":
            module.load_state_dict({name: value + 1 for name, value in module.state_dict().items()})
        elif how == "a buffer":
            module.norm1.running_mean.add_(1)
        elif how == "an optimizer":
            weight.grad = torch.ones_like(weight)
            torch.optim.SGD([weight], lr=0.1).step()
        elif how == "a module":
            module.relu1 = nn.Tanh()


@pytest.mark.parametrize(
    "how",
    [
        "in place",
        "through .data",
        "a filter pruned",
        "a filter pruned, channels last",
        "a norm through .data",
        "replaced .data",
        "a new parameter",
        "loaded",
        "a buffer",
        "an optimizer",
        "a module",
    ],
)
def test_the_digest_changes_when_the_network_does(how):
    module = seeded(Plain)
    before = Network(module).digest
    write(how, module)
    assert Network(module).digest != before
    assert Network(module).digest == Network(copy.deepcopy(module)).digest


def test_the_digest_is_computed_once():
    module = seeded(Plain)
    wrapped = Network(module)
    wrapped.digest  # noqa: B018 - computed here
    module.conv1.weight.data[0, 0, 0, 1] += 1  # one value among many, behind torch's back
    kept = wrapped.digest
    with torch.no_grad():
        module.conv1.bias.add_(0)  # a write that torch knows of
    assert wrapped.digest != kept


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_every_number_format_has_a_digest_of_its_own(dtype):
    assert Network(seeded(Plain).to(dtype)).digest != Network(seeded(Plain)).digest


def test_parallel_and_compiled_wrappers_are_taken_off_with_a_note():
    from torch._dynamo.eval_frame import OptimizedModule

    inner = seeded(Plain)
    compiled = torch.compile(inner, backend="eager")
    assert isinstance(compiled, OptimizedModule)
    for wrapped, note in [(nn.DataParallel(inner), "DataParallel"), (compiled, "compiled")]:
        found = Network(wrapped)
        assert found.module is inner
        assert any(note in each for each in found.notes)
        assert found.name == "Plain"
    both = Network(nn.DataParallel(compiled), notes=["mine"])
    assert both.module is inner
    assert both.notes[0] == "mine"
    assert len(both.notes) == 3


@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.rand(1, 4))])
def test_scripted_and_traced_modules_are_refused_with_the_way_out(make):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        module = make(nn.Linear(4, 2))
    with pytest.raises(NotApplicableError, match=r"pass the nn\.Module that it was made from"):
        Network(module)


def test_a_network_is_taken_as_it_is():
    wrapped = Network(nn.Identity())
    assert Network.of(wrapped) is wrapped
    assert Network.of(wrapped.module).module is wrapped.module


@pytest.mark.parametrize(
    ("asked", "index"),
    [
        ("tabby", 0),
        ("tabby cat", 0),
        ("Tabby, Tabby Cat", 0),
        ("tiger", 1),
        ("sport car", 4),
        ("wheel", 5),
        ("boxer", 6),
        (" BOXER ", 6),
    ],
)
def test_a_class_is_found_by_name_synonym_or_unmistakable_part(asked, index):
    assert named().class_index(asked) == index


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("crane", r"fits 2 classes: 2 \(crane\), 3 \(crane\); use a number"),
        ("cat", r"fits 2 classes: 0 \(tabby, tabby cat\), 1 \(tiger cat\)"),
        ("boxr", r"no class is called 'boxr'; similar: boxer"),
        ("zebra", r"no class is called 'zebra'"),
    ],
)
def test_a_name_that_fits_none_or_several_is_answered_with_them(asked, message):
    with pytest.raises(TargetError, match=message):
        named().class_index(asked)


def test_an_exact_name_wins_over_longer_ones():
    assert named(("cat", "wild cat", "cat, house cat")).class_index("cat") == 0


def test_names_without_class_names_are_refused():
    with pytest.raises(TargetError, match="no class names; use a number"):
        Network(nn.Identity()).class_index("cat")


def test_classes_are_shown_by_their_first_name_and_repeated_ones_with_their_number():
    shown = [named().class_name(index) for index in (0, 2, 3, 99)]
    assert shown == ["tabby", "crane (2)", "crane (3)", "99"]


LOGITS = torch.tensor([[2.0, -1.0, 0.5]])


@pytest.mark.parametrize(
    ("module", "output", "kind"),
    [
        (nn.Identity(), LOGITS, "softmax"),
        (nn.Identity(), LOGITS.softmax(1), "probabilities"),
        (nn.Sequential(nn.Linear(2, 3), nn.Sigmoid()), LOGITS.sigmoid(), "probabilities"),
        (nn.Identity(), LOGITS[:, :1], "sigmoid"),
        (nn.Sequential(nn.Linear(2, 1), nn.Sigmoid()), LOGITS[:, :1].sigmoid(), "probabilities"),
        # A gate that is registered last is not the output.
        (nn.Sequential(nn.Linear(2, 3), nn.Sigmoid()), LOGITS, "softmax"),
    ],
)
def test_what_outputs_mean_is_told_from_them(module, output, kind):
    assert Network(module).output_kind(output) == kind


@pytest.mark.parametrize("head", ["softmax", "sigmoid", "probabilities"])
def test_what_outputs_mean_can_be_said(head):
    assert Network(nn.Identity(), head=head).output_kind(LOGITS.softmax(1)) == head


def test_probabilities_follow_from_the_kind():
    assert torch.allclose(Network(nn.Identity()).probabilities(LOGITS), LOGITS.softmax(1))
    assert torch.allclose(Network(nn.Identity(), head="sigmoid").probabilities(LOGITS), LOGITS.sigmoid())
    assert torch.equal(Network(nn.Identity(), head="probabilities").probabilities(LOGITS), LOGITS)


def test_the_probabilities_of_a_sigmoid_head_are_its_outputs():
    module = seeded(Sigmoid)
    found = seewhy.GradCAM()(module, pictures(), 1)
    with torch.no_grad():
        outputs = module(pictures())
    assert [row[0].probability for row in found.predictions] == pytest.approx(outputs.amax(1).tolist())


@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam"])
@pytest.mark.parametrize("classes", [1, 3])
def test_a_sigmoid_that_is_only_a_function_gives_probabilities_too(method, classes):
    class Binary(Plain):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sigmoid(super().forward(x))

    module = seeded(lambda: Binary(classes=classes))
    with torch.no_grad():
        module.fc.bias.sub_(2)
        outputs = module(pictures(4))
    found = seewhy.make(method)(module, pictures(4))
    best = torch.maximum(outputs, 1 - outputs) if classes == 1 else outputs
    assert [row[0].probability for row in found.predictions] == pytest.approx(best.amax(1).tolist())
    if classes == 1:
        assert {row[0] for row in found.labels} == {"negative"}
        assert {row[0].label for row in found.predictions} == {"negative"}
        assert torch.allclose(found.scores, 1 - outputs)


@pytest.mark.parametrize("bias", [3.0, -3.0])
@pytest.mark.parametrize(
    ("classes", "labels", "indices"),
    [
        (("not red", "red"), ("not red", "red"), (0, 1)),
        (("red",), ("not red", "red"), (1, 0)),
        (None, ("negative", "positive"), (0, 1)),
    ],
)
def test_a_single_logit_is_predicted_by_its_sign(bias, classes, labels, indices):
    module = seeded(lambda: Plain(classes=1))
    with torch.no_grad():
        module.fc.weight.zero_()
        module.fc.bias.fill_(bias)
    found = seewhy.GradCAM()(Network(module, classes=classes), pictures(2))
    order = (1, 0) if bias > 0 else (0, 1)
    for row in found.predictions:
        assert [(each.label, each.index) for each in row] == [(labels[k], indices[k]) for k in order]
        assert [each.probability for each in row] == pytest.approx([0.9525741, 0.0474259])
    assert {row[0] for row in found.labels} == {labels[order[0]]}


@pytest.mark.parametrize("method", ["grad-cam", "eigen-cam"])
def test_a_logit_between_zero_and_one_is_still_a_logit(method):
    module = seeded(lambda: Plain(classes=1))
    with torch.no_grad():
        module.fc.weight.mul_(1e-3)
        module.fc.bias.fill_(0.3)
    found = seewhy.make(method)(module, pictures(4))
    assert torch.allclose(found.scores, torch.tensor(0.3), atol=0.01)
    assert found.predictions[0][0].probability == pytest.approx(torch.tensor(0.3).sigmoid().item(), abs=0.01)


SCORES, OTHER, INTEGER = torch.rand(2, 3), torch.rand(2, 5), torch.zeros(2, dtype=torch.long)


@pytest.mark.parametrize(
    ("outputs", "leaf", "expected"),
    [
        (SCORES, None, SCORES),
        ((SCORES, OTHER), None, SCORES),
        ((INTEGER, SCORES), None, SCORES),
        ({"aux": OTHER, "logits": SCORES}, None, SCORES),
        ({"aux": OTHER, "out": SCORES}, None, SCORES),
        ({"a": OTHER, "b": SCORES}, "b", SCORES),
        ({"a": OTHER, "b": {"c": SCORES}}, 1, SCORES),
        ((OTHER, [SCORES]), -1, SCORES),
        (Record(SCORES, OTHER), None, SCORES),
        (Record(OTHER, SCORES), "maps", SCORES),
        (SCORES, 0, SCORES),
    ],
)
def test_the_output_that_targets_read_is_found(outputs, leaf, expected):
    assert main_output(outputs, leaf) is expected


@pytest.mark.parametrize(
    ("outputs", "leaf", "message"),
    [
        ({"a": SCORES}, "b", r"no tensor 'b'; it is a dict of \['a'\]"),
        ((SCORES,), 3, "returns 1 tensors; there is no output 3"),
        ("text", None, "it is a str of 0 tensors"),
    ],
)
def test_an_output_that_is_not_there_is_answered_with_what_is(outputs, leaf, message):
    with pytest.raises(TargetError, match=message):
        main_output(outputs, leaf)


def test_reading_paths_needs_a_preprocess():
    with pytest.raises(InputError, match=r"came without a preprocess.*Preprocess\("):
        Network(seeded(Plain)).read("dog.jpg")


def test_example_inputs_are_always_the_same():
    wrapped = Network(seeded(Plain))
    assert wrapped.example_input().shape == (1, 3, 224, 224)
    assert torch.equal(wrapped.example_input(), wrapped.example_input())


def test_the_device_and_number_format_are_those_of_the_weights():
    assert Network(network("plain").double()).dtype == torch.float64
    assert Network(nn.Identity()).dtype == torch.float32

    class Integers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.zeros(2, dtype=torch.long))
            self.weight = nn.Parameter(torch.zeros(2, dtype=torch.float64))

    assert Network(Integers()).dtype == torch.float64


def test_networks_without_parameters_are_explained():
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Identity()
            self.maps = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            return self.maps(x).mean((2, 3))

    found = seewhy.GradCAM()(Fixed(), pictures(), 1)
    # y_1 is the mean of channel 1, so its weight is 1 / 256 at every position, averaged again over them.
    assert torch.allclose(found.values[:, 0], pictures().relu()[:, 1] / 256)
