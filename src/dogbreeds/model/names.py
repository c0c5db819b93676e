"""Names of backbones and of the stages that each can be cut at, without heavy imports."""

#: The files that describe a model package, to programs and to people; older packages lack the second.
DESCRIPTION, README = "model.json", "README.md"
#: The values of `model.weights` for any network; each has names of its own, and there are files and folders.
WEIGHTS = ("imagenet", "random")
#: Where backbones come from, and how their features are pooled.
LIBRARIES, POOLS = ("torchvision", "timm"), ("head", "token+mean")
_RESNET = ("layer1", "layer2", "layer3", "layer4")
_VGG = ("block1", "block2", "block3", "block4", "block5", "fc6", "fc7")

#: Names that `model.backbone` accepts of torchvision, each with the stages that `model.unfreeze` accepts for it.
BACKBONES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), _RESNET),
    **dict.fromkeys(("vgg16", "vgg16_bn"), _VGG),
    "squeezenet1_1": tuple(f"fire{number}" for number in range(2, 10)),
    "mobilenet_v2": tuple(f"block{number}" for number in range(1, 19)),
    "mobilenet_v3_large": (*(f"block{number}" for number in range(1, 17)), "fc"),
    "efficientnet_b0": tuple(f"block{number}" for number in range(1, 9)),
    "convnext_tiny": tuple(f"stage{number}" for number in range(1, 5)),
    "vit_b_16": tuple(f"layer{number}" for number in range(12)),
}
