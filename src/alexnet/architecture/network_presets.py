"""Preset networks (`ARCHS`: paper, caffe, torchvision, ...) with their sources: widths, strides, groups, biases.

A preset states only what differs from the defaults in spec.py, which are the paper's.

Sources, by short name, of networks and recipes (recipe_presets.py):
  §N           the section of Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep CNNs", NIPS 2012
  code2012     the 2012 configuration and code, released as computerhistory/AlexNet-Source-Code
  owt          Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997
  caffe        BVLC/caffe, models/bvlc_alexnet and models/bvlc_reference_caffenet
  layers-18pct the author's CIFAR-10 network: example-layers/ of dnouri/cuda-convnet, and of code2012's release
  torchvision  pytorch/vision, torchvision/models/alexnet.py and references/classification
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec, MapLRN
from alexnet.errors import UserError, did_you_mean

_PAPER_CONV = (  # widths, kernels, strides, groups: §3.5; biases: §5; padding: the sizes in Figure 2
    Conv(96, 11, stride=4, post_ops="act norm pool"),
    Conv(256, 5, padding=2, grouped=True, post_ops="act norm pool", init_bias=1.0),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, grouped=True, init_bias=1.0),
    Conv(256, 3, padding=1, grouped=True, post_ops="act pool", init_bias=1.0),
)

#: The paper as printed: two towers, 224 pixels, LRN by the printed formula. Rounding up makes conv1's output 55; an
#: input of 227 would need no rounding (`arithmetic.exact_input`). The other numbers are the defaults in spec.py: LRN
#: with k = 2, n = 5, alpha = 1e-4, beta = 0.75 (§3.3), pooling 3x3 with stride 2 (§3.4), dropout 0.5 (§4.2), weights
#: with std 0.01 (§5).
PAPER = Arch(
    "paper", _PAPER_CONV, dense=(Dense(4096, init_bias=1.0),) * 2,  # widths: §3.5; biases: §5
    towers=2, lrn=LRN(within_tower=True), conv_rounding="ceil", pool_rounding="ceil")


def _each(layers: tuple[Conv, ...], **columns: tuple[Any, ...]) -> tuple[Conv, ...]:
    """Replace fields of the layers; each keyword gives one field's values, one for each layer."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return tuple(replace(layer, **row) for layer, row in zip(layers, rows, strict=True))


#: §6's network with a sixth convolution after the last pooling, of which the paper gives no number. They are those of
#: layers-146-2012-2011 in code2012, whose logged errors (39.0% and 16.6%, ten views) are "1 CNN*" of Table 2: 128
#: kernels in each tower, which read the maps of both, init_std 0.03, biases 1. The file's other layers are code2012's.
#: Its logs give the pre-training: `code2012`'s conv1 to conv5, then 6.6 epochs with conv6 and the fully connected
#: layers drawn anew on the Fall 2009 release (10,184 classes), then 8.1 on Fall 2011 (21,843 classes, behind one more
#: layer of 2,048 linear units) from these convolutions, then 54 on ILSVRC-2012 with all layers but the output kept, at
#: learning rates that were lowered by hand, layer by layer. The paper tells of the last two. Unknown: the images
#: behind each "epoch" before ILSVRC-2012. No recipe here repeats it.
PAPER_CONV6 = replace(
    PAPER, name="paper-conv6", conv=(*_PAPER_CONV, Conv(256, 3, padding=1, init_std=0.03, init_bias=1.0)))

#: code2012, layers/layers-145.cfg, the network of Table 2: ReLU after conv1's pooling, alpha / n, a second norm,
#: init_std 0.03 in conv3 to conv5. convdata_jpeg.py subtracts the center crop of the mean from every view.
CODE2012 = replace(
    PAPER, name="code2012", input=InputSpec(mean_crop="center"), lrn=LRN(divide_by_n=True, within_tower=True),
    conv=_each(_PAPER_CONV, init_std=(0.01, 0.01, 0.03, 0.03, 0.03),
               post_ops=("norm pool act", "act norm mapnorm pool", "act", "act", "act pool")))

#: The same network: layers/layer-params-145-2010.cfg is the log of layers-145.cfg on ILSVRC-2010. Only the recipe
#: differs.
CODE2010 = replace(CODE2012, name="code2010")

_CAFFE_INPUT = InputSpec(side=256, crop=227, mean="pixel", channels="BGR")

#: Caffe's bvlc_alexnet: k = 1, LRN across the towers, biases 0.1 ("1 gave flat loss"), init_std 0.005 in fc6 and fc7.
#: Caffe's guide (examples/imagenet/readme.md) squashes images to 256x256 without keeping their proportions. This
#: package keeps them and crops (§2), for this network too: pack images that you have squashed yourself for Caffe's.
CAFFE = replace(
    PAPER, name="caffe", input=_CAFFE_INPUT, lrn=LRN(k=1.0, divide_by_n=True), conv_rounding="floor",
    conv=_each(_PAPER_CONV, init_bias=(0.0, 0.1, 0.0, 0.1, 0.1)), dense=(Dense(init_std=0.005, init_bias=0.1),) * 2)

#: Caffe's bvlc_reference_caffenet: pooling before normalization; biases 1.
CAFFENET = replace(
    CAFFE, name="caffenet", dense=(Dense(init_std=0.005, init_bias=1.0),) * 2,
    conv=_each(_PAPER_CONV, post_ops=("act pool norm", "act pool norm", "act", "act", "act pool")))

_TORCHVISION_CONV = (
    Conv(64, 11, stride=4, padding=2, post_ops="act pool"),
    Conv(192, 5, padding=2, post_ops="act pool"),
    Conv(384, 3, padding=1),
    Conv(256, 3, padding=1),  # owt's text says 384; its one-GPU code and torchvision have 256
    Conv(256, 3, padding=1, post_ops="act pool"),
)

#: torchvision's alexnet: the widths of owt's code for one GPU (akrizhevsky/cuda-convnet2, layers-imagenet-1gpu.cfg).
#: Padding 2 in conv1, no response normalization and dropout on inputs are torchvision's: that code has padding 0 and
#: the ceiling, cmrnorm after conv1 and conv2, and dropout on outputs. Mean and scale are ImageNet's, on 0..255.
TORCHVISION = Arch(
    "torchvision", _TORCHVISION_CONV, norm="none", average_pool=6, dropout_on_inputs=True, initialization="fan-in",
    input=InputSpec(mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375)), state_keys="torchvision")

#: The paper's network on one GPU, at its full widths: every convolution reads all maps.
ONE_GPU = replace(PAPER, name="one-gpu", towers=1)

_UNIT_INPUT = InputSpec(mean="channel", scale=(58.0, 58.0, 58.0))

#: Operations after each convolution, with batch normalization before every activation.
_BATCH_NORM = ("norm act pool", "norm act pool", "norm act", "norm act", "norm act pool")

#: The paper's layout with batch normalization before every activation instead of LRN (after cvjena/cnn-models).
PAPER_BN = replace(
    PAPER, name="paper-bn", norm="batch", dense_norm=True, initialization="kaiming", input=_UNIT_INPUT,
    conv=_each(_PAPER_CONV, post_ops=_BATCH_NORM, init_bias=(0.0,) * 5),
    dense=(Dense(init_bias=0.0),) * 2)

#: torchvision's layout with batch normalization before every activation.
TORCHVISION_BN = replace(
    TORCHVISION, name="torchvision-bn", norm="batch", dense_norm=True, initialization="kaiming", state_keys="names",
    conv=_each(_TORCHVISION_CONV, post_ops=_BATCH_NORM),
    dense=(Dense(init_bias=0.0),) * 2)

#: A four-layer network for CIFAR-10 like Figure 1's, which the paper does not print. It is of our making: the widths,
#: kernels and init_std of the convolutions are those of `cifar-18pct`; LRN across maps, max pooling throughout, the
#: output layer's init_std (0.1 against 0.01) and the crop of 28 pixels are ours.
CIFAR = Arch(
    "cifar",
    (Conv(32, 5, padding=2, post_ops="act pool norm", init_std=0.0001),
     Conv(32, 5, padding=2, post_ops="act pool norm"),
     Conv(64, 5, padding=2, post_ops="act pool")),
    dense=(), classes=10, dropout=0.0, output_init_std=0.1, lrn=LRN(k=1.0, n=9, alpha=5e-5), pool_rounding="ceil",
    input=InputSpec(side=32, crop=28, mean="pixel"))

#: layers-18pct: max pooling once and average pooling twice, LRN within maps, whole images of 32 pixels in 0..255.
CIFAR_18PCT = Arch(
    "cifar-18pct",
    (Conv(32, 5, padding=2, post_ops="act pool mapnorm", init_std=0.0001),
     Conv(32, 5, padding=2, post_ops="act avgpool mapnorm"),
     Conv(64, 5, padding=2, post_ops="act avgpool")),
    dense=(), classes=10, dropout=0.0, norm="none", map_lrn=MapLRN(side=3, alpha=5e-5), pool_rounding="ceil",
    input=InputSpec(side=32, crop=32, mean="pixel"))

#: For images of up to 64 pixels: five convolutions and 3/2 pooling as in the paper, with smaller kernels and widths.
SMALL = Arch(
    "small",
    (Conv(48, 5, stride=2, padding=2, post_ops="norm act pool"),
     Conv(96, 3, padding=1, post_ops="norm act pool"),
     Conv(128, 3, padding=1, post_ops="norm act"),
     Conv(128, 3, padding=1, post_ops="norm act"),
     Conv(128, 3, padding=1, post_ops="norm act pool")),
    dense=(Dense(256, init_bias=0.0),), classes=10, norm="batch", dense_norm=True, initialization="kaiming",
    pool_rounding="ceil",  # so that images of 32 pixels, cropped to 28, are large enough
    input=InputSpec(side=64, crop=56, mean="channel", scale=(58.0, 58.0, 58.0)))

#: For photographs at 64 pixels, between `small` and the paper: grouped convolutions as in the paper's two towers, which
#: halve the work of conv2, conv4 and conv5, and no pooling after conv1, so that conv2 works at 28x28. Average pooling
#: lets it train on smaller views than it is evaluated on.
MEDIUM = Arch(
    "medium",
    (Conv(64, 7, stride=2, padding=3, post_ops="norm act"),
     Conv(128, 3, padding=1, grouped=True, post_ops="norm act pool"),
     Conv(256, 3, padding=1, post_ops="norm act"),
     Conv(256, 3, padding=1, grouped=True, post_ops="norm act"),
     Conv(256, 3, padding=1, grouped=True, post_ops="norm act pool")),
    dense=(Dense(1024, init_bias=0.0),), classes=200, towers=2, norm="batch", dense_norm=True, average_pool=2,
    dropout=0.1, initialization="kaiming", pool_rounding="ceil",
    input=InputSpec(side=64, crop=60, mean="channel", scale=(58.0, 58.0, 58.0)))

ARCHS = {arch.name: arch for arch in (
    PAPER, PAPER_CONV6, CODE2012, CODE2010, CAFFE, CAFFENET, TORCHVISION, ONE_GPU, PAPER_BN, TORCHVISION_BN, CIFAR,
    CIFAR_18PCT, SMALL, MEDIUM)}

ABOUT_ARCHS = {
    "paper": "The paper's network as printed: two towers, LRN, 224 pixels (§3).",
    "paper-conv6": "paper with the sixth convolution of §6, as in the 2012 code.",
    "code2012": "The network of the authors' 2012 code, behind the paper's Table 2.",
    "code2010": "The same network, trained as in the authors' run on ILSVRC-2010.",
    "caffe": "Caffe's bvlc_alexnet. Caffe's guide squashes images to 256x256; here they are cropped, as in the paper.",
    "caffenet": "Caffe's bvlc_reference_caffenet: pooling before LRN. Images as for caffe.",
    "torchvision": "torchvision's alexnet, the one-GPU network without LRN.",
    "one-gpu": "The paper's widths in one tower.",
    "paper-bn": "The paper's layout with batch normalization in place of LRN.",
    "torchvision-bn": "torchvision's layout with batch normalization.",
    "cifar": "A four-layer network like the paper's (Figure 1), of our making, for images of 32 pixels.",
    "cifar-18pct": "The author's CIFAR-10 network of 18% error (layers-18pct of cuda-convnet).",
    "small": "Five convolutions with batch normalization, for images of 64 pixels or less: minutes on a CPU.",
    "medium": "Five grouped convolutions with batch normalization, for hundreds of classes at 64 pixels.",
}
"""What each network is, in a sentence for `alexnet list`."""


def unknown_network_remedy(name: str, known: Iterable[str]) -> str:
    """The closest name; for "alexnet", of which there are several, which is which."""
    if name.lower() in ("alexnet", "alex", "alex-net"):
        return ("paper is the AlexNet of the 2012 paper, torchvision that of torchvision, caffe that of Caffe; see "
                "alexnet list")
    return did_you_mean(name, known)


def arch(name: str) -> Arch:
    """The preset network of that name. Raises UserError with the closest name for an unknown one."""
    if name not in ARCHS:
        raise UserError(f"there is no network {name!r}", unknown_network_remedy(name, ARCHS))
    return ARCHS[name]
