"""The paper's claims, each with the runs that test it (`CLAIMS`): alexnet reproduce CLAIM."""

from __future__ import annotations

from alexnet.reproduce.claims import TARGET_ERROR, Claim, Comparison, Variant

BATCH_NORM = ("arch.norm=batch", "arch.dense_norm=true")
BATCH_NORM_BEFORE_RELU = (*BATCH_NORM, "arch.conv1.post_ops=norm act pool", "arch.conv2.post_ops=norm act pool")
HALF_WIDTH = ("arch.towers=1", "arch.conv1.width=16", "arch.conv2.width=32", "arch.conv3.width=48",
              "arch.conv4.width=48")
CENTER, NO_MIRROR = "recipe.crop=center", "recipe.mirror=false"
PAPER_INPUT = ("arch.input.scale=1,1,1", "arch.initialization=gaussian")
"""Pixels of 0 to 255 less their mean, and §5's standard deviations: what §3.3's alpha is made for."""
BIASES_OF_1 = tuple(f"arch.{layer}.init_bias=1" for layer in ("conv2", "conv4", "conv5", "dense"))
CONSTANT_RATE = "recipe.schedule=constant"

_FEW_IMAGES = (
    Claim("dropout", "§4.2", "without dropout the network overfits substantially; dropout roughly doubles the "
          "iterations to converge",
          "dropout leaves the error as it is or raises it, or needs no more epochs to the same clean training error",
          (Variant("no dropout", ("arch.dropout=0",)), Variant("dropout")),
          (Comparison("dropout", "no dropout", -1),
           Comparison("dropout", "no dropout", +1, 2.0, "epochs", "epochs with dropout against none")),
          epochs=150, images_per_class=100, target=0.25),
    Claim("augmentation", "§4.1", "without random crops and mirroring the network overfits substantially",
          "random crops and mirroring, together or each alone, leave the error as it is or raise it",
          (Variant("center crop only", (CENTER, NO_MIRROR)), Variant("random crops", (NO_MIRROR,)),
           Variant("mirroring", (CENTER,)), Variant("crops and mirroring"),
           Variant("center crop only, half the images", (CENTER, NO_MIRROR), images_factor=0.5),
           Variant("crops and mirroring, half the images", images_factor=0.5),
           Variant("center crop only, 3 times the images", (CENTER, NO_MIRROR), images_factor=3.0),
           Variant("crops and mirroring, 3 times the images", images_factor=3.0)),
          (Comparison("crops and mirroring", "center crop only", -1),
           Comparison("random crops", "center crop only", -1),
           Comparison("mirroring", "center crop only", -1),
           Comparison("crops and mirroring, half the images", "center crop only, half the images", -1),
           Comparison("crops and mirroring, 3 times the images", "center crop only, 3 times the images", -1)),
          epochs=150, images_per_class=100),
)

_ALL_IMAGES = (
    Claim("lrn", "§3.3", "response normalization lowers the top-1 error by 1.4 points",
          "response normalization leaves the error as it is or raises it, or a constant factor of the same size does "
          "as well",
          (Variant("no normalization", ("arch.norm=none",)),
           Variant("constant factor 2^-0.75", ("arch.lrn.alpha=0",)), Variant("response normalization")),
          (Comparison("response normalization", "no normalization", -1, -1.4),
           Comparison("response normalization", "constant factor 2^-0.75", -1)),
          epochs=40, common=PAPER_INPUT, rates=(0.0003, 0.001, 0.003, 0.01), least_norm=0.01),
    Claim("overlap", "§3.4", "overlapping pooling (3x3, stride 2) lowers the top-1 error by 0.4 points against 2x2, "
          "stride 2, whose maps have equal dimensions",
          "overlapping pooling leaves the error as it is or raises it",
          (Variant("pooling 2x2", ("arch.pool_kernel=2", "arch.pool_rounding=floor")), Variant("pooling 3x3")),
          (Comparison("pooling 3x3", "pooling 2x2", -1, -0.4),), epochs=40, equal_maps=True),
    Claim("depth", "§7", "removing any of the middle layers costs about 2 points of top-1 error",
          "the error stays as it is or falls when one of the middle layers is removed",
          (Variant("five convolutions"), Variant("no conv3", removed_layer="conv3"),
           Variant("no conv4", removed_layer="conv4"), Variant("no conv5", removed_layer="conv5")),
          tuple(Comparison(f"no conv{number}", "five convolutions", +1, 2.0) for number in (3, 4, 5)), epochs=40),
    Claim("ensemble", "§6, Table 2", "averaging five networks lowers the top-1 error by 2.6 points",
          "the average of five networks errs as often as its members do, or more often",
          (Variant("one network", views=10), Variant("five averaged", views=10, averaged=5)),
          (Comparison("five averaged", "one network", -1, -2.6),), epochs=40, seeds=3),
    Claim("ten-views", "§4.1", "averaging over ten views lowers the top-1 error by 1.5 points",
          "ten views err as often as one, or more often",
          (Variant("one view"), Variant("ten views", views=10)),
          (Comparison("ten views", "one view", -1, -1.5),), epochs=40),
    Claim("two-gpu", "§3.2", "two towers have 1.7 points less top-1 error than one tower with half as many kernels in "
          "conv1 to conv4",
          "two towers err as often as the smaller network, or more often",
          (Variant("one tower, half the kernels", HALF_WIDTH), Variant("two towers")),
          (Comparison("two towers", "one tower, half the kernels", -1, -1.7),), epochs=40),
    Claim("lighting", "§4.1", "color noise along the principal components lowers the top-1 error by over 1 point; it "
          "makes the network invariant to the color of the illumination",
          "color noise leaves the error as it is or raises it, on the images as they are and on recolored ones",
          (Variant("no color noise", ("recipe.lighting=0",)), Variant("color noise")),
          (Comparison("color noise", "no color noise", -1, -1.0),
           Comparison("color noise", "no color noise", -1, None, "recolored", "color noise, on recolored images")),
          epochs=40),
    Claim("batch-norm", "after the paper", "batch normalization, which has replaced response normalization, lowers the "
          "error; elsewhere, at 128 pixels, by 0.3 points before the ReLU and by 2.8 after it",
          "batch normalization leaves the error as it is or raises it",
          (Variant("response normalization"), Variant("batch norm after ReLU", BATCH_NORM),
           Variant("batch norm before ReLU", BATCH_NORM_BEFORE_RELU)),
          (Comparison("batch norm after ReLU", "response normalization", -1, -2.8),
           Comparison("batch norm before ReLU", "response normalization", -1, -0.3)), epochs=40),
    Claim("weight-decay", "§5", "weight decay lowers the training error; it is not merely a regularizer",
          "weight decay leaves the clean training error as it is or raises it",
          (Variant("no weight decay", ("recipe.weight_decay=0",)), Variant("weight decay")),
          (Comparison("weight decay", "no weight decay", -1, None, "train"),), epochs=40),
)

_SPEED = (
    Claim("figure1", "§3.1, Figure 1", "a four-layer network of ReLUs reaches 25% training error on CIFAR-10 in a "
          "sixth of the epochs that one of tanh needs, without regularization, each with its best learning rate",
          "tanh needs no more epochs than ReLU",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",))),
          (Comparison("tanh", "ReLU", +1, 6.0, "epochs"),), epochs=40, network="cifar", target=TARGET_ERROR,
          stops_at_target=True, rates=(0.0003, 0.001, 0.003, 0.01), seeds=5, tuning_seeds=1),
    Claim("saturation", "§3.1", "networks with saturating units learn several times slower than those with ReLUs",
          "tanh or sigmoid need no more epochs than ReLU",
          (Variant("ReLU"), Variant("tanh", ("arch.activation=tanh",)),
           Variant("sigmoid", ("arch.activation=sigmoid",))),
          (Comparison("tanh", "ReLU", +1, None, "epochs"), Comparison("sigmoid", "ReLU", +1, None, "epochs")),
          epochs=40, common=(CONSTANT_RATE,), target=0.5, stops_at_target=True),
    Claim("biases", "§5", "initial biases of 1 in conv2, conv4, conv5 and the fully connected layers accelerate the "
          "early stages of learning",
          "biases of 1 need as many epochs as biases of 0, or more",
          (Variant("biases of 0"), Variant("biases of 1", BIASES_OF_1)),
          (Comparison("biases of 1", "biases of 0", -1, None, "epochs"),),
          epochs=40, common=(CONSTANT_RATE,), target=0.5, stops_at_target=True),
)

CLAIMS = {claim.name: claim for claim in (*_FEW_IMAGES, *_ALL_IMAGES, *_SPEED)}
