"""Preset recipes (`RECIPES`: paper, modern, finetune, ...) with their sources: schedules, label smoothing, crops.

A preset states only what differs from the defaults in recipe.py, which are the paper's. network_presets.py explains the
short names of sources.
"""

from __future__ import annotations

from dataclasses import replace

from alexnet.architecture.recipe import Recipe
from alexnet.architecture.spec import Arch
from alexnet.errors import UserError, did_you_mean

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
    # §5's training with §4.1's augmentation; the numbers are the defaults in recipe.py. Batches of 128, learning rate
    # 0.01, divided by 10 up to three times, momentum 0.9, weight decay 0.0005, 90 epochs; color noise 0.1. Only
    # `patience` is ours.
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


def recipe(name: str) -> Recipe:
    """The preset recipe of that name. Raises UserError with the closest name for an unknown one."""
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}", did_you_mean(name, RECIPES))
    return RECIPES[name]
