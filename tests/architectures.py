"""The real architectures that the contract is checked on, and which of them CAM is defined for."""

ARCHITECTURES = {
    "torchvision:resnet50": True,
    "torchvision:densenet121": False,
    "torchvision:mobilenet_v3_large": False,
    "torchvision:efficientnet_b0": True,
    "torchvision:convnext_tiny": False,
    "torchvision:inception_v3": True,
    "torchvision:vgg16": False,
    "torchvision:regnet_y_400mf": True,
    "torchvision:squeezenet1_0": False,
    "timm:ghostnet_100": False,
    "torchvision:resnext50_32x4d": True,
    "torchvision:swin_t": True,
    "timm:swin_tiny_patch4_window7_224": True,
    "timm:vit_tiny_patch16_224": False,
    "timm:deit3_small_patch16_224": False,
}
