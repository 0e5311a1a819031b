"""The paper's claims (`CLAIMS`): section, variants to train, the paper's number, and Figure 1's target of 25% error."""

from __future__ import annotations

from alexnet.reproduce.claim import Claim, Comparison, Variant

TARGET_ERROR = 0.25
"""The training error at which Figure 1 compares ReLU with tanh."""

BATCH_NORM_AFTER_RELU = (
    "arch.norm=batch", *(f"arch.conv{number}.post_ops=act norm" for number in (3, 4)),
    "arch.conv5.post_ops=act norm pool")
BATCH_NORM_BEFORE_RELU = (
    "arch.norm=batch", *(f"arch.conv{number}.post_ops=norm act pool" for number in (1, 2)),
    *(f"arch.conv{number}.post_ops=norm act" for number in (3, 4)), "arch.conv5.post_ops=norm act pool")
"""Both after every convolution, and not in the fully connected layers, so that only the place differs."""
HALF_WIDTH = ("arch.towers=1", "arch.conv1.width=16", "arch.conv2.width=32", "arch.conv3.width=48",
              "arch.conv4.width=48")
CENTER, NO_MIRROR = "recipe.crop=center", "recipe.mirror=false"
BIASES_OF_1 = tuple(f"arch.{layer}.init_bias=1" for layer in ("conv2", "conv4", "conv5", "dense"))
PAPER_SCALE = (
    "arch.input.scale=1,1,1", "arch.initialization=gaussian", "arch.conv1.init_std=0.022", "arch.conv2.init_std=0.017",
    *(f"arch.{layer}.init_std=0.02" for layer in ("conv3", "conv4", "conv5")), "arch.dense.init_std=0.04",
    "arch.output_init_std=0.04", *BIASES_OF_1)
"""Settings for activations of the paper's size, which §3.3's alpha is made for: pixels of 0 to 255 minus their mean,
§5's biases, and §5's standard deviation of 0.01 times sqrt(the paper's fan-in / ours). With 0.01 itself the signal of
our narrower layers vanishes: it falls by a factor of 10,000 from conv1 to fc6, and alpha x sum / k is 0.2%."""
_ABOUT_SCALE = ("initial standard deviations are the paper's 0.01 times the square root of its fan-in divided by ours, "
                "because with 0.01 the signal of these narrower layers vanishes")
CONSTANT_RATE = "recipe.schedule=constant"
CAFFENET_BENCHMARK = "D. Mishkin's caffenet-benchmark"
"""ImageNet at 128 pixels, one run each: https://github.com/ducha-aiki/caffenet-benchmark/blob/master/batchnorm.md"""

# --- The claims -------------------------------------------------------------------------------------------------------

_GAP = ("the overfitting gap is the validation error minus the clean training error, both of center crops; it is shown "
        "and not judged, since whatever makes training harder lowers it")
_LOWEST_LOSS = "lowest loss"

_FEW_IMAGES = (
    Claim("dropout", "§4.2", "without dropout the network overfits substantially; dropout roughly doubles the "
          "iterations to converge",
          "dropout raises the validation error or the validation loss, or an effect of 1 point, or of a factor of 1.1 "
          "on the loss, is excluded; or it needs fewer epochs, or not significantly more and a factor of 2 is excluded",
          (Variant("no dropout", ("arch.dropout=0",)), Variant("dropout"),
           Variant(f"no dropout, {_LOWEST_LOSS}", ("arch.dropout=0",), tuned_by="loss"),
           Variant(f"dropout, {_LOWEST_LOSS}", tuned_by="loss"),
           Variant("no dropout, fastest", ("arch.dropout=0", CONSTANT_RATE), epochs_factor=2, tuned_by="epochs"),
           Variant("dropout, fastest", (CONSTANT_RATE,), epochs_factor=2, tuned_by="epochs")),
          (Comparison("dropout", "no dropout", -1, least=-1.0),
           Comparison(f"dropout, {_LOWEST_LOSS}", f"no dropout, {_LOWEST_LOSS}", -1, None, quantity="loss",
                      name="validation loss with dropout against none", least=1 / 1.1),
           Comparison("dropout, fastest", "no dropout, fastest", +1, 2.0, quantity="epochs",
                      name="epochs with dropout against none")),
          epochs=150, images_per_class=100, target=0.05, reported=("gap",),
          note=f"{_GAP}; a run counts as converged at 5% clean training error, to which each side is compared at the "
          "constant learning rate that gets there in the fewest epochs"),
    Claim("augmentation", "§4.1", "without random crops and mirroring the network overfits substantially",
          "random crops and mirroring, together or each alone, raise the validation error or the validation loss, or "
          "an effect of 1 point, or of a factor of 1.1 on the loss, is excluded",
          (Variant("center crop only", (CENTER, NO_MIRROR)), Variant("random crops", (NO_MIRROR,)),
           Variant("mirroring", (CENTER,)), Variant("crops and mirroring"),
           Variant(f"center crop only, {_LOWEST_LOSS}", (CENTER, NO_MIRROR), tuned_by="loss"),
           Variant(f"crops and mirroring, {_LOWEST_LOSS}", tuned_by="loss"),
           Variant("center crop only, half the images", (CENTER, NO_MIRROR), images_factor=0.5, epochs_factor=2),
           Variant("crops and mirroring, half the images", images_factor=0.5, epochs_factor=2),
           Variant("center crop only, 3 times the images", (CENTER, NO_MIRROR), images_factor=3, epochs_factor=1 / 3),
           Variant("crops and mirroring, 3 times the images", images_factor=3, epochs_factor=1 / 3)),
          (Comparison("crops and mirroring", "center crop only", -1, least=-1.0),
           Comparison(f"crops and mirroring, {_LOWEST_LOSS}", f"center crop only, {_LOWEST_LOSS}", -1, None,
                      quantity="loss", name="validation loss with crops and mirroring against center crop only",
                      least=1 / 1.1),
           Comparison("random crops", "center crop only", -1, least=-1.0),
           Comparison("mirroring", "center crop only", -1, least=-1.0),
           Comparison("crops and mirroring, half the images", "center crop only, half the images", -1, least=-1.0),
           Comparison("crops and mirroring, 3 times the images", "center crop only, 3 times the images", -1,
                      least=-1.0)),
          epochs=150, images_per_class=100, reported=("gap",),
          note=f"{_GAP}; all variants have the same number of steps"),
)

_OWN_MEMBERS = ("the average is nearly sure to err less, since it is compared with the mean error of its own five "
                "members; only the size of the effect is tested")

# Published differences of errors are compared as relative ones, because our errors differ from the paper's.
# The reference is Table 2's "1 CNN", 40.7%, plus the effect where the number is what something lowers the error by.
_ALL_IMAGES = (
    Claim("lrn", "§3.3", "response normalization lowers the top-1 error by 1.4 points",
          "response normalization raises the error, or has no significant effect and 3.3% fewer errors are excluded; "
          "or 2.5% fewer than with a constant factor of the same size are excluded",
          (Variant("no normalization", ("arch.norm=none",)),
           Variant("constant factor 2^-0.75", ("arch.lrn.alpha=0",)), Variant("response normalization")),
          (Comparison("response normalization", "no normalization", -1, -3.3, "errors", words="1.4 points of 42.1%"),
           Comparison("response normalization", "constant factor 2^-0.75", -1, quantity="errors", least=-2.5)),
          epochs=40, common=PAPER_SCALE, rates=(0.0003, 0.001, 0.003), note=_ABOUT_SCALE,
          least_norm=0.1),  # of our choice: below it the sum changes an activation by less than 1 - 1.1^-0.75 = 7%
    Claim("overlap", "§3.4", "overlapping pooling (3x3, stride 2) lowers the top-1 error by 0.4 points against 2x2, "
          "stride 2, whose maps have equal dimensions",
          "overlapping pooling raises the error, or has no significant effect and 1.0% fewer errors are excluded",
          (Variant("pooling 2x2", ("arch.pool_kernel=2",)), Variant("pooling 3x3")),
          (Comparison("pooling 3x3", "pooling 2x2", -1, -1.0, "errors", words="0.4 points of 41.1%"),), epochs=40,
          equal_maps=True, crop=3 / 4,
          note="views have three quarters of the image's side, so that all maps before a pooling have an even side and "
          "2x2 windows leave no row or column out; eight seeds find such an effect only if seeds differ little"),
    Claim("depth", "§7", "removing any of the middle layers costs about 2 points of top-1 error",
          "removing one of the middle layers lowers the error, or has no significant effect and 4.9% more errors are "
          "excluded",
          (Variant("five convolutions"), Variant("no conv3", removed_layer="conv3"),
           Variant("no conv4", removed_layer="conv4"), Variant("no conv5", removed_layer="conv5")),
          tuple(Comparison(f"no conv{number}", "five convolutions", +1, 4.9, "errors", words="2 points of 40.7%")
                for number in (3, 4, 5)), epochs=40,
          note="without conv3 the towers meet in the fully connected layers only; with ten classes the network has "
          "368,842 parameters, 299,626 without conv3, 327,274 without conv4, and 414,858 without conv5: more than with "
          "it, since fc6 then reads the 96 maps of conv4 and not the 64 of conv5"),
    Claim("ensemble", "§6, Table 2", "averaging five networks lowers the top-1 error by 2.6 points",
          "averaging five networks raises the error, or has no significant effect and 6.4% fewer errors are excluded",
          (Variant("one network", views=10), Variant("five averaged", views=10, averaged=5)),
          (Comparison("five averaged", "one network", -1, -6.4, "errors", words="2.6 points of 40.7%",
                      caution=_OWN_MEMBERS),),
          epochs=40, seeds=3,
          note="three disjoint ensembles of five, of 15 networks; with three pairs a t test finds a mean difference of "
          f"5.7 standard errors (power 80%), and a smaller one less often; {_OWN_MEMBERS}"),
    Claim("ten-views", "§4.1, §6", "averaging over ten views lowers the top-1 error by 1.5 points",
          "ten views raise the error, or have no significant effect and 3.8% fewer errors are excluded",
          (Variant("one view"), Variant("ten views", views=10)),
          (Comparison("ten views", "one view", -1, -3.8, "errors", words="1.5 points of 39.0%, ILSVRC-2010"),),
          epochs=40),
    Claim("two-gpu", "§3.2", "two towers have 1.7 points less top-1 error than one tower with half as many kernels in "
          "conv1 to conv4",
          "two towers have a higher error than the smaller network, or not a significantly lower one and 4.0% fewer "
          "errors are excluded",
          (Variant("one tower, half the kernels", HALF_WIDTH), Variant("two towers")),
          (Comparison("two towers", "one tower, half the kernels", -1, -4.0, "errors", words="1.7 points of 42.4%"),),
          epochs=40,
          note="as in the paper, the two towers have twice the kernels of conv1 to conv4; unlike there, they also have "
          "26% more parameters (368,842 against 292,490 with ten classes)"),
    Claim("lighting", "§4.1", "color noise along the principal components lowers the top-1 error by over 1 point, and "
          "makes the network less sensitive to the color of the illumination",
          "color noise raises the error, or has no significant effect and 2.4% fewer errors are excluded; or it makes "
          "the error rise more when the images are recolored, or an effect of 1 point on that rise is excluded",
          (Variant("no color noise", ("recipe.lighting=0",)), Variant("color noise")),
          (Comparison("color noise", "no color noise", -1, -2.4, "errors", words="over 1 point of 41.7%",
                      is_bound=True),
           Comparison("color noise", "no color noise", -1, None, quantity="recolored_rise",
                      name="color noise, recolored images", least=-1.0,
                      caution="the error is nearly sure to rise less, since this network alone has been trained on "
                      "such noise; only the size of the effect is tested")),
          epochs=40, note="recolored images are the validation images with five times the color noise of training, "
          "which one side has trained on"),
    Claim("batch-norm", "after the paper", "batch normalization, which has replaced response normalization, lowers the "
          "error against none; in D. Mishkin's caffenet-benchmark (ImageNet at 128 pixels, one run each) by 2.2 points "
          "after the ReLU and 0.7 before it (his rows with scale and bias)",
          "batch normalization raises the error, or has no significant effect and 4.2% fewer errors after the ReLU, or "
          "1.3% before it, are excluded",
          (Variant("no normalization", ("arch.norm=none",)), Variant("batch norm after ReLU", BATCH_NORM_AFTER_RELU),
           Variant("batch norm before ReLU", BATCH_NORM_BEFORE_RELU)),
          (Comparison("batch norm after ReLU", "no normalization", -1, -4.2, "errors", words="2.2 points of 52.9%",
                      source=CAFFENET_BENCHMARK),
           Comparison("batch norm before ReLU", "no normalization", -1, -1.3, "errors", words="0.7 points of 52.9%",
                      source=CAFFENET_BENCHMARK)), epochs=40,
          note="batch normalization, with scale and bias, stands after each of the five convolutions; the published "
          "accuracies (47.1% without, 49.3% in the row \"After + scale&bias\", 47.8% in \"Before + scale&bias\", one "
          "run each) are of a network that normalizes fc6 and fc7 as well; without scale and bias he has 49.9% after "
          "the ReLU, his best, which is 2.8 points less error, and 47.4% before it"),
    Claim("weight-decay", "§5", "weight decay lowers the training error; it is not merely a regularizer",
          "weight decay raises the clean training error, or an effect of 0.5 points is excluded",
          (Variant("no weight decay", ("recipe.weight_decay=0",), tuned_by="train"),
           Variant("weight decay", ("recipe.weight_decay=0.02",), tuned_by="train")),
          (Comparison("weight decay", "no weight decay", -1, None, quantity="train", least=-0.5),), epochs=40,
          note="weights shrink by exp(-sum of learning rate x weight decay / (1 - momentum)): in the paper, with "
          "0.0005, by about exp(-12) before the first drop of the rate; here, in {steps:,} steps that begin at the "
          "learning rate {rate:g}, 0.0005 would shrink them by exp(-{shrink_paper:.2g}), and the decay of 0.02 by "
          "exp(-{shrink:.2g})"),
)

OWN_GAIN = ("arch.initialization=kaiming", "arch.input.scale=58,58,58", "arch.output_init_std=0.01")
"""Inputs of unit variance and weights that keep it, by each activation's own gain, so that tanh and sigmoid are not
judged with ReLU's initialization."""

_SPEED = (
    Claim("figure1", "§3.1, Figure 1", "a four-layer network of ReLUs reaches 25% training error on CIFAR-10 in a "
          "sixth of the epochs that one of tanh needs, without regularization, each with its best learning rate",
          "tanh needs fewer epochs than ReLU, or not significantly more and a factor of 6 is excluded",
          (Variant("ReLU", tuned_by="epochs"), Variant("tanh", ("arch.activation=tanh",), tuned_by="epochs")),
          (Comparison("tanh", "ReLU", +1, 6.0, quantity="epochs"),), steps=16_000, common=OWN_GAIN, network="cifar",
          target=TARGET_ERROR, rates=(0.001, 0.003, 0.01), seeds=5, data="cifar10",
          note="the paper does not give the layers of its four-layer network, so ours is of our making (`alexnet list "
          "cifar`); the target is the clean training error after an epoch; the error that training itself counts is of "
          "weights that change during the epoch, and so lags half an epoch behind; a run lasts at most 16,000 steps, "
          "however many images it has"),
    Claim("saturation", "§3.1", "networks with saturating units learn several times slower than those with ReLUs",
          "tanh needs fewer epochs than ReLU, or a factor of 2 is excluded",
          (Variant("ReLU", tuned_by="epochs"), Variant("tanh", ("arch.activation=tanh",), tuned_by="epochs")),
          (Comparison("tanh", "ReLU", +1, quantity="epochs", least=2.0),),
          steps=4_000, common=("arch.norm=none", CONSTANT_RATE), target=0.5,
          note="without response normalization, which at unit scale multiplies all activations by 0.6; initial weights "
          "keep the signal's variance by each activation's own gain"),
    Claim("biases", "§5", "initial biases of 1 in conv2, conv4, conv5 and the fully connected layers accelerate the "
          "early stages of learning",
          "biases of 1 need more epochs than biases of 0, or a factor of 1.1 is excluded",
          (Variant("biases of 0", tuple(setting.replace("=1", "=0") for setting in BIASES_OF_1), tuned_by="epochs"),
           Variant("biases of 1", tuned_by="epochs")),
          (Comparison("biases of 1", "biases of 0", -1, quantity="epochs", least=1 / 1.1),),
          steps=4_000, common=(*PAPER_SCALE, CONSTANT_RATE), target=0.5, rates=(0.0003, 0.001, 0.003),
          note=f"{_ABOUT_SCALE}; a run lasts at most 4,000 steps, however many images it has"),
)

CLAIMS = {claim.name: claim for claim in (*_FEW_IMAGES, *_ALL_IMAGES, *_SPEED)}
