from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from toy_networks import (
    Block,
    Frozen,
    NotATransformer,
    Plain,
    RowByRow,
    Siamese,
    Transformer,
    network,
    pictures,
    seeded,
    trained_head,
)

import seewhy
from seewhy.errors import LayerError
from seewhy.network.layers import Choice, Site, attention_modules, choose, resolve
from seewhy.network.load import import_torchvision
from seewhy.network.network import Network
from seewhy.network.survey import Survey
from seewhy.network.surveys import surveyed
from seewhy.targets import Function, Pixels, Predicted, Target


def survey_of(module: nn.Module, inputs=None, target: Target | None = None) -> Survey:
    wrapped = Network(module)
    with wrapped.prepared(pictures() if inputs is None else inputs) as arguments:
        return surveyed(wrapped, arguments, target or Predicted())[0]


def chosen(module: nn.Module, inputs=None, target: Target | None = None) -> list[str]:
    return [str(site) for site in choose(survey_of(module, inputs, target), attention_modules(module)).calls]


def grid(module: nn.Module, inputs=None, target: Target | None = None):
    (call,) = choose(survey_of(module, inputs, target), attention_modules(module)).calls.values()
    return call.layout.axes, call.layout.grid, call.layout.prefix


@pytest.mark.parametrize(
    ("name", "layer", "layout"),
    [
        ("plain", "relu2", ("BKhw", (8, 8), 0)),
        ("in-place relu", "relu2", ("BKhw", (8, 8), 0)),
        ("functional relu", "norm2", ("BKhw", (8, 8), 0)),
        ("dict output", "relu2", ("BKhw", (8, 8), 0)),
        ("tuple output", "relu2", ("BKhw", (8, 8), 0)),
        ("named tuple output", "relu2", ("BKhw", (8, 8), 0)),
        ("residual", "last", ("BKhw", (16, 16), 0)),
        ("dense", "c", ("BKhw", (16, 16), 0)),
        ("shared modules", "act[2]", ("BKhw", (16, 16), 0)),
        ("lstm head", "relu", ("BKhw", (8, 8), 0)),
        ("class token", "blocks.1.norm1", ("BNK", (4, 4), 1)),
        ("registers", "blocks.1.norm1", ("BNK", (4, 4), 4)),
        ("mean of tokens", "norm", ("BNK", (4, 4), 0)),
        ("sequence first", "norm", ("NBK", (4, 4), 0)),
        ("channels last", "norm", ("BhwK", (8, 8), 0)),
        ("sigmoid head", "relu2", ("BKhw", (8, 8), 0)),
        ("frozen backbone", "backbone", ("BKhw", (14, 14), 0)),
        ("inference-mode backbone", "backbone", ("BKhw", (14, 14), 0)),
        ("frames, picture by picture", "last", ("BKhw", (16, 16), 0)),
    ],
)
def test_the_last_feature_map_that_the_target_depends_on_is_chosen(name, layer, layout):
    assert chosen(network(name)) == [layer]
    assert grid(network(name)) == layout


def test_dataclasses_inside_are_looked_into():
    assert chosen(network("dataclass inside")) == ["backbone"]


def test_a_dataclass_output_is_explained_by_its_field():
    assert chosen(network("dataclass output"), target=Predicted(output="scores")) == ["relu2"]


def test_the_class_scores_of_a_segmentation_network_are_not_its_features():
    assert chosen(network("u-net"), target=Pixels(2)) == ["merge"]


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_a_map_of_class_scores_is_passed_over(classes):
    class FullyConvolutional(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.scores = nn.Conv2d(8, classes, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.scores(self.features(x)).mean((2, 3))

    assert chosen(seeded(FullyConvolutional)) == ["relu2"]


def test_convolutions_after_pooling_are_passed_over():
    class Pooled(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.squeeze, self.head = nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.head(self.squeeze(self.features(x))).relu().flatten(1))

    assert chosen(seeded(Pooled)) == ["relu2"]


def test_pooled_maps_are_passed_over_for_the_one_before():
    class Vgg(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.pool2, self.wide = nn.MaxPool2d(2), nn.Linear(128, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.wide(self.pool2(self.features(x)).flatten(1))

    assert chosen(seeded(Vgg)) == ["relu2"]


def test_an_auxiliary_branch_is_passed_over():
    class Branch(Plain):
        def __init__(self) -> None:
            super().__init__()
            self.aside = nn.Conv2d(8, 8, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            maps = self.features(x)
            return self.fc(maps.mean((2, 3))), self.aside(maps)

    assert chosen(seeded(Branch)) == ["relu2"]
    assert chosen(seeded(Branch), target=Function(lambda out: out[1].flatten(1).sum(1))) == ["aside"]


def test_a_block_that_is_called_attention_is_not_mistaken_for_it():
    class ResidualAttentionBlock(Block):
        """What CLIP calls its whole transformer block."""

    module = seeded(lambda: Transformer(class_token=True))
    for block in module.blocks:
        block.__class__ = ResidualAttentionBlock
    assert attention_modules(module) == ["blocks.0.attn", "blocks.1.attn"]
    assert chosen(module) == ["blocks.1.norm1"]


def test_a_backbone_that_is_called_attention_is_explained_all_the_same():
    class AttentionNet(Plain):
        pass

    module = seeded(lambda: nn.Sequential(AttentionNet()))
    assert chosen(module) == ["0.relu2"]


def test_two_pictures_get_a_map_each():
    assert chosen(seeded(Siamese), (pictures(), pictures(seed=1))) == ["backbone", "backbone[1] of input 1"]


def test_inputs_that_are_joined_at_once_get_one_map():
    class Joined(Plain):
        def forward(self, before: Tensor, after: Tensor) -> Tensor:
            return super().forward(before - after)

    assert chosen(seeded(Joined), (pictures(), pictures(seed=1))) == ["relu2"]


def test_text_beside_a_picture_gets_no_map():
    module = network("plain")
    assert chosen(module) == ["relu2"]
    from toy_networks import PictureAndText

    words = torch.tensor([[1, 2, 3], [4, 5, 6]])
    assert chosen(seeded(PictureAndText), (pictures(), words)) == ["relu"]
    named = {"image": pictures(), "text": words}
    assert chosen(seeded(PictureAndText), named) == ["relu of input image"]


def test_a_network_without_maps_is_refused_with_the_reason():
    with pytest.raises(
        LayerError, match=r"no module .* feature map with more than one position; `seewhy layers`"
    ):
        seewhy.GradCAM()(seeded(NotATransformer), pictures(), 1)


def test_a_network_that_loops_over_its_pictures_is_refused_with_the_reason():
    with pytest.raises(LayerError, match="one picture"):
        seewhy.GradCAM()(seeded(RowByRow), pictures(), 1)


def test_the_choice_does_not_depend_on_the_picture_s_content():
    module = network("plain")
    assert chosen(module, torch.zeros(1, 3, 16, 16)) == chosen(module, 100 * pictures(1)) == ["relu2"]


def resolved(name: str, *layers: str, inputs=None) -> Choice:
    return resolve(survey_of(network(name) if isinstance(name, str) else name, inputs), layers)


def test_a_named_layer_is_taken():
    assert list(resolved("plain", "conv1", "norm2").calls) == [Site("conv1"), Site("norm2")]


def test_a_repeated_module_is_explained_at_its_last_call_or_the_one_named():
    assert list(resolved("shared modules", "block").calls) == [Site("block", 1)]
    assert list(resolved("shared modules", "block[0]").calls) == [Site("block", 0)]
    assert list(resolved("shared modules", "act[1]").calls) == [Site("act", 1)]


def test_a_named_layer_of_two_pictures_is_explained_for_both():
    found = resolved(seeded(Siamese), "backbone", inputs=(pictures(), pictures(seed=1)))
    assert list(found.calls) == [Site("backbone", 0, 0), Site("backbone", 1, 1)]


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("norm3", r"no layer 'norm3' ran in this network; did you mean norm"),
        ("quux", r"no layer 'quux' ran .* layers with feature maps: conv1, norm1"),
        ("conv1[4]", r"no layer 'conv1\[4\]'"),
        ("fc", r"layer 'fc' \(Linear\) returns \(1, 4\), which has no positions.*relu2"),
    ],
)
def test_a_wrong_name_is_answered_with_names_that_work(layer, message):
    with pytest.raises(LayerError, match=message):
        resolved("plain", layer)


def test_the_listing_names_every_call_and_marks_the_choice():
    lines = {line.name: line for line in Network(network("plain")).layers(pictures())}
    assert list(lines) == ["conv1", "norm1", "relu1", "pool", "conv2", "norm2", "relu2", "drop", "fc"]
    assert [name for name, line in lines.items() if line.chosen] == ["relu2"]
    assert lines["relu2"].reason == "the last feature map whose positions the target depends on"
    assert {name: lines[name].reason for name in ("pool", "drop", "fc", "norm2")} == {
        "pool": "pooled",
        "drop": "passes its input on",
        "fc": "no positions",
        "norm2": "",
    }
    assert lines["conv2"].shape == (1, 8, 8, 8)


def test_the_listing_says_why_the_last_patches_are_passed_over():
    lines = {line.name: line for line in Network(network("class token")).layers(pictures())}
    assert lines["blocks.1"].reason == "the target does not depend on its positions"
    assert lines["blocks.1.attn"].reason in (
        "inside attention",
        "the target does not depend on its positions",
    )


def test_a_frozen_backbone_is_explained_though_it_ran_without_a_graph():
    module, image = seeded(Frozen), pictures()
    trainable = seeded(lambda: Frozen(torch.enable_grad))
    found, expected = (seewhy.GradCAM()(each, image, 1).values for each in (module, trainable))
    assert torch.equal(found, expected)


REAL = [
    ("torchvision:resnet18", "layer4", ("BKhw", (7, 7), 0)),
    ("torchvision:vgg16", "features.29", ("BKhw", (14, 14), 0)),
    ("torchvision:squeezenet1_1", "features", ("BKhw", (13, 13), 0)),
    ("torchvision:mobilenet_v3_small", "features", ("BKhw", (7, 7), 0)),
    ("torchvision:mobilenet_v2", "features", ("BKhw", (7, 7), 0)),
    ("torchvision:densenet121", "features", ("BKhw", (7, 7), 0)),
    ("torchvision:inception_v3", "Mixed_7c", ("BKhw", (8, 8), 0)),
    ("torchvision:googlenet", "inception5b", ("BKhw", (7, 7), 0)),
    ("torchvision:efficientnet_b0", "features", ("BKhw", (7, 7), 0)),
    ("torchvision:convnext_tiny", "features", ("BKhw", (7, 7), 0)),
    ("torchvision:swin_t", "permute", ("BKhw", (7, 7), 0)),
    ("torchvision:vit_b_16", "encoder.layers.encoder_layer_11.ln_1", ("BNK", (14, 14), 1)),
    ("timm:ghostnet_100", "blocks", ("BKhw", (7, 7), 0)),
    ("timm:mobilenetv3_small_100", "blocks", ("BKhw", (7, 7), 0)),
    ("timm:vit_tiny_patch16_224", "blocks.11.norm1", ("BNK", (14, 14), 1)),
    ("timm:vit_base_patch16_siglip_gap_224", "blocks", ("BNK", (14, 14), 0)),
    ("timm:deit3_small_patch16_224", "blocks.11.norm1", ("BNK", (14, 14), 1)),
    ("timm:deit_tiny_distilled_patch16_224", "blocks.11.norm1", ("BNK", (14, 14), 2)),
    ("timm:swin_tiny_patch4_window7_224", "norm", ("BhwK", (7, 7), 0)),
    ("timm:convnext_tiny", "stages", ("BKhw", (7, 7), 0)),
    ("timm:regnety_004", "s4", ("BKhw", (7, 7), 0)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("spec", "layer", "layout"), REAL, ids=[spec for spec, _, _ in REAL])
def test_the_choice_for_published_families(spec, layer, layout):
    module = trained_head(seewhy.load(spec, weights="random").module)
    image = pictures(1, 299 if "inception" in spec else 224)
    assert (chosen(module, image), grid(module, image)) == ([layer], layout)


def huggingface(kind: str) -> tuple[nn.Module, Tensor]:
    """A small network of a transformers family with random weights, and a picture for it."""
    import_torchvision()  # transformers imports it, and cannot where its operators are missing
    import transformers as t

    small = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    configs = {
        "vit": lambda: t.ViTConfig(image_size=32, patch_size=8, **small),
        "resnet": lambda: t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
        "convnext": lambda: t.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2),
        "swin": lambda: t.SwinConfig(
            image_size=64, patch_size=4, embed_dim=8, depths=[1, 1], num_heads=[2, 2], window_size=4
        ),
        "dinov2": lambda: t.Dinov2WithRegistersConfig(
            image_size=32, patch_size=8, num_register_tokens=4, mlp_ratio=2, **small
        ),
    }
    size = 64 if kind == "swin" else 32
    return seeded(lambda: t.AutoModelForImageClassification.from_config(configs[kind]())), pictures(1, size)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "layer", "layout"),
    [
        ("vit", "vit.layers.1.layernorm_before", ("BNK", (4, 4), 1)),
        ("resnet", "resnet", ("BKhw", (4, 4), 0)),
        ("convnext", "convnext", ("BKhw", (4, 4), 0)),
        ("swin", "swin", ("BNK", (8, 8), 0)),
        ("dinov2", "dinov2_with_registers", ("BNK", (4, 4), 5)),
    ],
)
def test_the_choice_for_transformers_families(kind, layer, layout):
    module, image = huggingface(kind)
    assert grid(module, image) == layout
    (found,) = chosen(module, image)
    assert found == layer
