"""Preset networks (`ARCHS`: paper, code2012, caffe, torchvision, ...) and recipes (`RECIPES`), each with its source.

A preset states only what differs from the defaults in spec.py and recipe.py, which are the paper's.

Sources, by short name:
  §N           the section of Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep CNNs", NIPS 2012
  code2012     the 2012 configuration and code, released as computerhistory/AlexNet-Source-Code
  owt          Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997
  caffe        BVLC/caffe, models/bvlc_alexnet and models/bvlc_reference_caffenet
  layers-18pct the author's CIFAR-10 network: example-layers/ of dnouri/cuda-convnet, and of code2012's release
  torchvision  pytorch/vision, torchvision/models/alexnet.py and references/classification
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import LRN, Arch, Conv, Dense, InputSpec, MapLRN
from alexnet.errors import UserError, did_you_mean

# --- The networks -----------------------------------------------------------------------------------------------------

_PAPER_CONV = (  # widths, kernels, strides, groups: §3.5; biases: §5; padding: the sizes in Figure 2
    Conv(96, 11, stride=4, post_ops="act norm pool"),
    Conv(256, 5, padding=2, grouped=True, post_ops="act norm pool", init_bias=1.0),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, grouped=True, init_bias=1.0),
    Conv(256, 3, padding=1, grouped=True, post_ops="act pool", init_bias=1.0),
)

#: The paper as printed: two towers, 224 pixels, LRN by the printed formula. Rounding up makes conv1's output 55.
PAPER = Arch("paper", _PAPER_CONV, towers=2, lrn=LRN(within_tower=True), conv_rounding="ceil", pool_rounding="ceil")


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

# --- The recipes ------------------------------------------------------------------------------------------------------

#: layers/layer-params-145.cfg, the run behind Table 2's "1 CNN" (40.7%, 18.2%). The comments of that file are its log:
#: epsW divided by 10 at epochs 25, 51 and 79; at 67 conv1's epsW set to 1e-5 and the color noise to 0; at 72 conv1's
#: epsW set to 0; killed at 91. Here an epoch of the log is that many finished epochs: the log does not say where in an
#: epoch the run was stopped. Biases: epsB 0.02 throughout, no decay (layer.cu). conv1's epsB is 0 in the file, which is
#: that of the end, and the log does not say from when: here from 72, with epsW. convdata_jpeg.py: one crop and mirror
#: for 32 images, and views divided by 1.1 while there is noise. Left out: a second leg to epoch 135 (noise back at 0.1,
#: epsW back at 0.001 except in conv1, divided at 107 and 124, noise off at 124), which reached 40.25% and 17.99%.
_CODE2012 = Recipe(
    "code2012", epochs=91, schedule="steps", drop_epochs=(25, 51, 79), bias_lr_factor=2.0, bias_lr_schedule=False,
    decay_biases=False, view_group=32, lighting_rescale=True, lighting_stop_epoch=67, conv1_slow_epoch=67,
    conv1_stop_epoch=72)

RECIPES = {recipe.name: recipe for recipe in (
    # §5's training with §4.1's augmentation. Only `patience` is ours.
    Recipe("paper"),
    _CODE2012,
    # layers/layer-params-145-2010.cfg, the run on ILSVRC-2010: biases at 0.002 (epsB), and its own log of epochs.
    replace(_CODE2012, name="code2010", epochs=93, drop_epochs=(23, 51, 78), bias_lr_factor=0.2, conv1_slow_epoch=68,
            lighting_stop_epoch=68),
    # models/bvlc_alexnet/solver.prototxt: a drop every 100,000 of 450,000 steps of 256 images, 20 epochs of ImageNet.
    Recipe("caffe", batch_size=256, schedule="steps", drop_epochs=(20, 40, 60, 80), bias_lr_factor=2.0,
           decay_biases=False, lighting=0.0),
    # references/classification: 8 GPUs x 32 images, a drop every 30 epochs, no color noise, PyTorch's update rule. The
    # random resized crops have torchvision's law, but are taken from the stored square. torchvision's may reach the
    # ends of a long image, which packing has cut off, and are resized from its full resolution.
    Recipe("torchvision", batch_size=256, weight_decay=1e-4, lr_in_velocity=False, schedule="steps",
           drop_epochs=(30, 60), crop="resized", lighting=0.0),
    # The lowest error in few epochs, for networks with batch normalization.
    Recipe("modern", epochs=30, learning_rate=0.1, weight_decay=5e-4, decay_biases=False, lr_in_velocity=False,
           nesterov=True, schedule="linear", warmup_epochs=1.0, label_smoothing=0.1, crop="resized",
           crop_area=(0.25, 1.0)),
    # For `medium` on 100,000 images of 64 pixels (Tiny ImageNet): `modern` with smaller training views and less
    # regularization, since so few epochs underfit.
    Recipe("medium", epochs=24, learning_rate=0.1, weight_decay=5e-4, decay_biases=False, lr_in_velocity=False,
           nesterov=True, schedule="linear", warmup_epochs=1.0, label_smoothing=0.1, crop="resized",
           crop_area=(0.35, 1.0), train_crop=44, lighting=0.0),
    # Large batches, for networks with batch normalization: LARS (arXiv 1708.03888), with five warm-up epochs and
    # quadratic decay as in arXiv 1709.05011. The learning rate is ours. With it `small` reached 24.9% top-1 error on
    # Imagenette at batch size 1,024 (15 epochs, one seed); it has not been run at 8,192.
    Recipe("lars", batch_size=8192, learning_rate=10.0, lars_trust=0.001, decay_biases=False, schedule="poly",
           warmup_epochs=5.0, lighting=0.0),
    # Fine-tuning (`--init`): Caffe's rates, a tenth of §5's for pretrained layers and §5's for new layers, both falling
    # to 0. Small batches, since such data sets are small. Networks with batch normalization have rates of their own
    # (`finetune_recipe`). Label smoothing keeps a network that knows its few images by heart from too much confidence.
    Recipe("finetune", epochs=30, batch_size=32, learning_rate=0.001, new_layer_lr_factor=10.0, schedule="cosine",
           label_smoothing=0.1, lighting=0.0),
    # Logistic regression on the features of a trained network (`--head`). `head_recipe` adds the layers to freeze. The
    # learning rate is the first step length that L-BFGS's line search tries.
    Recipe("head", epochs=1, optimizer="lbfgs", learning_rate=1.0, momentum=0.0, weight_decay=0.0, schedule="constant",
           crop="center", lighting=0.0),
    # Of our making: learning rates and weight decay are those of `cifar-18pct`'s convolutions, in fewer epochs, with
    # crops and mirrors.
    Recipe("cifar", epochs=60, learning_rate=0.001, weight_decay=0.004, schedule="steps", drop_epochs=(50, 55),
           lighting=0.0, bias_lr_factor=2.0, decay_biases=False),
    # layer-params-18pct: drops after 120 epochs "then another after 10 more"; weight decay 1 in the output layer.
    # The file names no data provider. cuda-convnet's plain one, which gives whole images that are not mirrored, is
    # assumed, as in Caffe's copy (examples/cifar10/cifar10_full), which also gives the end, ten epochs after the second
    # drop. Batches of 128 are cuda-convnet's default.
    Recipe("cifar-18pct", epochs=140, learning_rate=0.001, weight_decay=0.004, output_decay_factor=250.0,
           schedule="steps", drop_epochs=(120, 130), crop="center", mirror=False, lighting=0.0, bias_lr_factor=2.0,
           decay_biases=False),
)}

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

ABOUT_RECIPES = {
    "paper": "Training as in the paper (§5): the learning rate drops when the validation error stops falling.",
    "code2012": "Training as in the log of the authors' 2012 run (Table 2): only the weights' learning rate drops.",
    "code2010": "Training as in the log of the authors' run on ILSVRC-2010, whose biases learn a tenth as fast.",
    "caffe": "Caffe's solver for bvlc_alexnet.",
    "torchvision": "torchvision's reference training, with random resized crops of the stored square, not of the whole "
                   "image.",
    "modern": "What has replaced the paper's training since: a linear schedule with warm-up, label smoothing and "
              "random resized crops, for a low error in 30 epochs. For networks with batch normalization.",
    "medium": "modern with less regularization and smaller training views, for the network medium.",
    "lars": "For batches of thousands of images (LARS), and networks with batch normalization.",
    "finetune": "Continues trained weights at a low learning rate (--init).",
    "head": "Trains the output layer alone on the features of trained weights (--init NAME --head).",
    "cifar": "For the network cifar: the rates and decay of cifar-18pct, fewer epochs, crops and mirrors.",
    "cifar-18pct": "The author's training of cifar-18pct: 140 epochs of whole images.",
}
"""What each recipe is, in a sentence for `alexnet list`."""


def default_recipe(arch: Arch) -> Recipe:
    """The default recipe of a network: the recipe of its name, else `modern` with batch normalization, else `paper`."""
    name = {"caffenet": "caffe"}.get(arch.name, arch.name)
    return RECIPES[name if name in RECIPES else "modern" if arch.norm == "batch" else "paper"]


def finetune_recipe(arch: Arch) -> Recipe:
    """Recipe `finetune` with the learning rates for the network.

    With batch normalization 0.003, and 0.009 for new layers; at 0.01 and 0.1, a tenth and the whole of `modern`'s rate,
    which is for batches four times as large, the validation loss on 200 images rose from 1.9 to 4.3.
    Any other network: a tenth of the learning rate that its default recipe has, and all of it for new layers.
    """
    if arch.norm == "batch":
        return replace(RECIPES["finetune"], learning_rate=0.003, new_layer_lr_factor=3.0)
    return replace(RECIPES["finetune"], learning_rate=default_recipe(arch).learning_rate / 10)


def head_recipe(arch: Arch) -> Recipe:
    """Recipe `head`, with all layers of the network but the output frozen."""
    hidden = [f"fc{number}" for number in range(len(arch.conv) + 1, len(arch.conv) + len(arch.dense) + 1)]
    return replace(RECIPES["head"], freeze=" ".join(["conv", *hidden]))


def arch(name: str) -> Arch:
    """The preset network of that name. Raises UserError with the closest name for an unknown one."""
    if name not in ARCHS:
        raise UserError(f"there is no network {name!r}", did_you_mean(name, ARCHS))
    return ARCHS[name]


def recipe(name: str) -> Recipe:
    """The preset recipe of that name. Raises UserError with the closest name for an unknown one."""
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}", did_you_mean(name, RECIPES))
    return RECIPES[name]
