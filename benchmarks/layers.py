"""Which layer is chosen for each family of networks: `python -m benchmarks.layers` rewrites docs/layers.md."""

from __future__ import annotations

import torch

import seewhy
from benchmarks.page import DOCS, provenance, write
from seewhy.errors import NotApplicableError
from seewhy.render.markdown import markdown_table

NETWORKS = (
    "torchvision:alexnet", "torchvision:vgg16", "torchvision:resnet50", "torchvision:resnext50_32x4d",
    "torchvision:densenet121", "timm:densenet121", "torchvision:googlenet", "torchvision:inception_v3",
    "torchvision:squeezenet1_0", "torchvision:mobilenet_v2", "torchvision:mobilenet_v3_large",
    "torchvision:efficientnet_b0", "torchvision:regnet_y_400mf", "torchvision:convnext_tiny",
    "timm:ghostnet_100", "torchvision:swin_t", "timm:swin_tiny_patch4_window7_224",
    "timm:vit_tiny_patch16_224", "timm:deit3_small_patch16_224", "timm:deit_tiny_distilled_patch16_224",
    "timm:vit_small_patch14_reg4_dinov2",
)  # fmt: skip

TEXT = """# Layers: where a map is drawn

`layer=None` chooses the last feature map with more than one position whose positions the target depends on. That is
measured once per network, on a noisy copy of a picture: a layer counts if the target's gradient there is not zero.

* A class-token transformer ignores the patches that leave its last block; the input of that block's attention is the
  last map that counts.
* Maps whose channels already are class scores are passed over (SqueezeNet): there a map would only show the score.
* Poolings are passed over for what they pool: VGG's choice is relu5_3, as in the Grad-CAM paper.
* Insides of attention (queries, keys, values) are no feature maps.
* With several picture inputs, each gets the last map that depends on it alone.
* Tokens are read as (B, K, h, w), class and register tokens dropped; so are channels-last maps.

`seewhy layers MODEL` prints every module with its output, the choice, and why the others were passed over.
`layer="name"` asks for one by its dotted name, `"name[1]"` for the second call of a module that runs more than once.

{table}

Random weights, inputs of the size the network expects. CAM: whether the head after the layer is average pooling
and one linear map, as measured. Guided: whether there are ReLUs, whose gradient guided backpropagation, deconvolution
and Guided Grad-CAM change.

{provenance}
"""


def row(name: str) -> list[str]:
    """One network: the layer chosen, its kind and grid, and which methods that are not for all take it."""
    torch.manual_seed(0)
    network = seewhy.load(name, weights="random")
    example = network.example_input()
    layer = next(each for each in network.layers(example) if each.chosen)
    assert layer.layout is not None
    grid = " x ".join(map(str, layer.layout.grid))
    dropped = f", {layer.layout.prefix} tokens dropped" if layer.layout.prefix else ""
    return [f"`{name}`", f"`{layer.name}`", layer.kind, grid + dropped] + [
        _takes(explainer, network, example) for explainer in (seewhy.CAM(), seewhy.GuidedBackprop())
    ]


def _takes(explainer: seewhy.Explainer, network: seewhy.Network, example: torch.Tensor) -> str:
    try:
        explainer(network, example)
    except NotApplicableError:
        return "no"
    return "yes"


def main() -> None:
    """Survey all networks and write the page."""
    torch.set_num_threads(2)
    found = markdown_table(
        ["network", "layer", "kind", "grid", "CAM", "guided"], [row(name) for name in NETWORKS]
    )
    print(found)
    text = TEXT.format(
        table=found, provenance=provenance("python -m benchmarks.layers", ["torch", "torchvision", "timm"])
    )
    write(DOCS / "layers.md", text)


if __name__ == "__main__":
    main()
