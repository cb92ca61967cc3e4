"""The real architectures that the contract is checked on."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """A network by name.

    Attributes:
        name: what `seewhy.load` takes.
        pooled_linear: whether CAM is defined for it.
        side: of the square pictures; small, where the network takes any size.
    """

    name: str
    pooled_linear: bool
    side: int = 96


ARCHITECTURES = (
    Architecture("torchvision:resnet50", pooled_linear=True),
    Architecture("torchvision:densenet121", pooled_linear=False),
    Architecture("torchvision:mobilenet_v3_large", pooled_linear=False),
    Architecture("torchvision:efficientnet_b0", pooled_linear=True),
    Architecture("torchvision:convnext_tiny", pooled_linear=False),
    Architecture("torchvision:inception_v3", pooled_linear=True, side=128),
    Architecture("torchvision:vgg16", pooled_linear=False),
    Architecture("torchvision:regnet_y_400mf", pooled_linear=True),
    Architecture("torchvision:squeezenet1_0", pooled_linear=False),
    Architecture("timm:ghostnet_100", pooled_linear=False),
    Architecture("torchvision:resnext50_32x4d", pooled_linear=True),
    Architecture("torchvision:swin_t", pooled_linear=True),
    Architecture("timm:swin_tiny_patch4_window7_224", pooled_linear=True, side=224),
    Architecture("timm:vit_tiny_patch16_224", pooled_linear=False, side=224),
    Architecture("timm:deit3_small_patch16_224", pooled_linear=False, side=224),
)
