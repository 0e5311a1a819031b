"""What there is to choose: a network (`Arch`), its input (`InputSpec`), its training (`Recipe`), and named presets.

Plain frozen dataclasses that check themselves when made. They import nothing of ours and no torch, so that
`alexnet explain` and `alexnet --help` answer at once. A variant is a preset plus overrides (settings.py), never a copy.

Sources of the numbers, by short name:
  §N        the section of Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep CNNs", NIPS 2012
  code2012  the 2012 configuration and code, released as computerhistory/AlexNet-Source-Code
  owt       Krizhevsky, "One weird trick for parallelizing convolutional neural networks", arXiv 1404.5997
  caffe     BVLC/caffe, models/bvlc_alexnet and models/bvlc_reference_caffenet
  torchvision  pytorch/vision, torchvision/models/alexnet.py and references/classification
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

Activation = Literal["relu", "tanh", "sigmoid"]
Norm = Literal["lrn", "batch", "none"]
Rounding = Literal["floor", "ceil"]
Initialisation = Literal["gaussian", "fan-in", "kaiming"]

#: What may follow a convolution, in the order in which `Conv.then` names it.
STEPS = ("act", "norm", "mapnorm", "pool")


def check(holds: bool, message: str) -> None:
    """Raises ValueError with the message unless it holds."""
    if not holds:
        raise ValueError(message)


@dataclass(frozen=True)
class InputSpec:
    """The way from a stored photograph to the network's input; travels with the weights."""

    side: int = 256
    """Side in pixels of the square that is stored (§2: shorter side to 256, then the central 256x256)."""
    crop: int = 224
    """Side in pixels of the view that the network sees (§4.1: 224)."""
    mean: Literal["pixel", "channel"] | tuple[float, float, float] = "pixel"
    """What is subtracted, on 0..255: the training set's mean of each pixel (§2) or channel, or given numbers (RGB)."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """What the result is divided by, per channel, on 0..255 (§2: nothing)."""
    channels: Literal["RGB", "BGR"] = "RGB"
    """Order in which the network takes them (Caffe: BGR). Mean and scale are given in RGB all the same."""

    def __post_init__(self) -> None:
        check(self.crop >= 1, f"crop {self.crop} must be at least 1 pixel")
        check(self.crop <= self.side, f"crop {self.crop} exceeds photo side {self.side}; "
               f"set arch.input.side to {self.crop} or more and pack with that --side")
        check(all(s > 0 for s in self.scale), f"scale {self.scale} must be positive in each channel")


@dataclass(frozen=True)
class LRN:
    """Local response normalisation (§3.3): b = a / (k + alpha * sum over n neighbouring maps of a^2) ^ beta."""

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    divide_by_n: bool = False
    """The printed formula multiplies the sum by alpha; code2012, Caffe and PyTorch multiply it by alpha / n."""
    within_tower: bool = False
    """Whether a map's neighbours end at its own GPU: §3.2 lets the towers meet only from conv2 to conv3 and later."""

    def __post_init__(self) -> None:
        check(self.n >= 1 and self.n % 2 == 1, f"LRN over n={self.n} maps has no middle; n must be odd")
        check(self.k > 0, f"LRN's k={self.k} must be positive, or a dark picture divides by zero")


@dataclass(frozen=True)
class Conv:
    """One convolutional layer and what follows it."""

    width: int
    """Number of kernels, over all towers."""
    kernel: int
    stride: int = 1
    padding: int = 0
    within_tower: bool = False
    """True: each tower sees only its own maps (§3.5: conv2, conv4, conv5), a grouped convolution. False: all maps."""
    then: str = "act"
    """What follows, in order, of `act norm mapnorm pool`; `mapnorm` is code2012's 5x5 normalisation within a map."""
    sigma: float = 0.01
    bias: float = 0.0
    dilation: int = 1
    """Pixels from one of the kernel's to the next; 1 in every AlexNet."""

    @property
    def reach(self) -> int:
        """Side of what the kernel covers, the gaps of its dilation included."""
        return self.dilation * (self.kernel - 1) + 1

    def __post_init__(self) -> None:
        for name in ("width", "kernel", "stride", "dilation"):
            check(getattr(self, name) >= 1, f"a convolution's {name} {getattr(self, name)} must be at least 1")
        check(self.padding >= 0, f"a convolution's padding {self.padding} must be at least 0")
        unknown = [step for step in self.then.split() if step not in STEPS]
        check(not unknown, f"unknown step {' '.join(unknown)!r} after a convolution; steps are {', '.join(STEPS)}")
        check(len(set(self.then.split())) == len(self.then.split()), f"a step stands twice in {self.then!r}")


@dataclass(frozen=True)
class Dense:
    """One hidden fully connected layer."""

    width: int = 4096
    sigma: float = 0.01
    bias: float = 1.0

    def __post_init__(self) -> None:
        check(self.width >= 1, f"a fully connected layer's width {self.width} must be at least 1")


@dataclass(frozen=True)
class Arch:
    """A network: `conv` layers, then hidden `dense` layers, then one output for each class.

    Layers are called conv1, conv2, ... and go on counting through fc6, fc7, fc8; what follows a layer bears its
    number: relu1 (tanh1, sigmoid1), norm1, mapnorm2, pool1, dropout6.
    """

    name: str
    conv: tuple[Conv, ...]
    dense: tuple[Dense, ...] = (Dense(), Dense())
    classes: int = 1000
    input: InputSpec = InputSpec()
    towers: int = 1
    activation: Activation = "relu"
    norm: Norm = "lrn"
    """What `norm` stands for in each `Conv.then`."""
    lrn: LRN = LRN()
    dense_norm: bool = False
    """Batch normalisation between each hidden fully connected layer and its activation."""
    pool_kernel: int = 3
    pool_stride: int = 2
    """§3.4: 3 and 2, so that windows overlap; 2 and 2 do not."""
    conv_rounding: Rounding = "floor"
    """code2012 took the ceiling of the output size: 1 + ceil((224 - 11) / 4) = 55. Zeros fill in, right and bottom."""
    pool_rounding: Rounding = "floor"
    average_pool: int = 0
    """Side to which an adaptive average pooling brings the last maps (torchvision: 6); 0: none."""
    dropout: float = 0.5
    """Probability of zero in training; what is kept is scaled by 1 / (1 - p), which equals §4.2's 0.5 at test."""
    dropout_before: bool = False
    """False: on the outputs of the hidden layers (§4.2). True: on the inputs (torchvision)."""
    initialisation: Initialisation = "gaussian"
    """`gaussian`: each layer's own sigma; `fan-in`: torch's default; `kaiming`: normal, variance 2 / fan-in."""
    output_sigma: float = 0.01
    output_bias: float = 0.0
    state_keys: Literal["names", "torchvision"] = "names"
    """Keys of the state dict: features.conv1.weight, or torchvision's features.0.weight."""

    def __post_init__(self) -> None:
        check(len(self.conv) >= 1, f"{self.name} has no convolution; give at least one")
        check(self.classes >= 2, f"classes {self.classes} must be at least 2: one class leaves nothing to tell apart")
        check(self.towers >= 1, f"towers {self.towers} must be at least 1")
        check(0 <= self.dropout < 1, f"dropout {self.dropout} must lie in 0 <= p < 1")
        check(self.pool_kernel >= 1 and self.pool_stride >= 1,
               f"pooling {self.pool_kernel}/{self.pool_stride} must be at least 1 in kernel and stride")
        check(self.average_pool >= 0, f"average_pool {self.average_pool} must be 0 (none) or a side in pixels")
        for number, conv in enumerate(self.conv, 1):
            check(not conv.within_tower or number > 1, "conv1 sees the photograph whole; within_tower cannot be true")
            for width in (conv.width, self.conv[max(number - 2, 0)].width):
                check(not conv.within_tower or width % self.towers == 0,
                       f"conv{number} splits {width} maps over {self.towers} towers, which does not go up; "
                       f"make the width a multiple of {self.towers}")
        if self.lrn.within_tower and self.norm == "lrn":
            for number, conv in enumerate(self.conv, 1):
                check("norm" not in conv.then.split() or conv.width % self.towers == 0,
                       f"norm{number} splits {conv.width} maps over {self.towers} towers, which does not go up")

    def groups(self, number: int) -> int:
        """Groups of convolution `number`, counted from 1."""
        return self.towers if self.conv[number - 1].within_tower else 1

    def steps(self, number: int) -> list[str]:
        """What follows convolution `number`, counted from 1, with a norm of `none` left out."""
        return [step for step in self.conv[number - 1].then.split() if step != "norm" or self.norm != "none"]


@dataclass(frozen=True)
class Recipe:
    """A way to train: everything that changes the result, but for the network, the data and the seed."""

    name: str
    epochs: int = 90
    """§5: roughly 90 cycles through the training set."""
    batch_size: int = 128
    """Photographs in a step over all devices together (§5: 128)."""
    rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    decay_biases: bool = True
    """§5's rule decays w, and names no exception; code2012 and Caffe decay the weights alone."""
    bias_rate: float = 1.0
    """Factor on the rate of the biases (code2012 and Caffe: 2)."""
    new_rate: float = 1.0
    """Factor on the rate of layers that begin anew where the others begin from a checkpoint (Caffe's examples: 10)."""
    rate_in_velocity: bool = True
    """True: §5's v <- 0.9 v - 0.0005 eps w - eps dL/dw. False: PyTorch's, where the rate multiplies v outside."""
    nesterov: bool = False
    trust: float = 0.0
    """LARS's coefficient (arXiv 1708.03888: 0.001), by which each layer's rate follows the size of its weights over
    that of their gradient; 0: one rate for all."""
    schedule: Literal["plateau", "steps", "exponential", "cosine", "linear", "poly", "constant"] = "plateau"
    drops: int = 3
    """How often a plateau, an exponential or (by the length of `drop_epochs`) a step schedule lowers the rate."""
    drop_factor: float = 10.0
    drop_epochs: tuple[int, ...] = ()
    patience: int = 3
    """Epochs without a better validation error before the rate drops: §5 did it by hand and gives no number."""
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    crop: Literal["window", "resized", "centre"] = "window"
    """`window`: a random crop of the stored side (§4.1). `resized`: torchvision's random area and ratio, rescaled."""
    crop_area: tuple[float, float] = (0.08, 1.0)
    mirror: bool = True
    lighting: float = 0.1
    """Standard deviation of PCA colour noise (§4.1: 0.1); 0: none."""
    lighting_scale: Literal["eigenvalues", "deviations"] = "deviations"
    """What multiplies the noise. §4.1 prints eigenvalues, of pixels in 0..1 as far as that makes sense;
    cuda-convnet2 carries (19.7, 37.1, 121.8) on 0..255, which are their square roots, standard deviations."""
    view_group: int = 1
    """Photographs in a batch that share one crop and mirror (code2012: 32)."""
    conv1_slows: int = 0
    """Epoch from which on conv1's rate is 1e-5 at the most (code2012's log: about 67); 0: never."""
    conv1_stops: int = 0
    """Epoch from which on conv1 stays as it is (code2012's log: about 72); 0: never."""
    lighting_stops: int = 0
    """Epoch from which on colours have no noise (code2012's log: about 67); 0: never."""
    freeze: str = ""
    """Layers whose weights stay as they are, for fine-tuning: `conv`, all convolutions, or names: `conv1 conv2`."""

    def __post_init__(self) -> None:
        check(self.epochs >= 1, f"epochs {self.epochs} must be at least 1")
        check(self.batch_size >= 1, f"batch_size {self.batch_size} must be at least 1")
        check(self.rate > 0, f"rate {self.rate} must be positive")
        check(0 <= self.momentum < 1, f"momentum {self.momentum} must lie in 0 <= m < 1")
        check(self.weight_decay >= 0, f"weight_decay {self.weight_decay} must be at least 0")
        check(self.drops >= 1, f"drops {self.drops} must be at least 1; for none, set schedule=constant")
        check(self.drop_factor > 1, f"drop_factor {self.drop_factor} must exceed 1: the rate is divided by it")
        check(self.warmup_epochs >= 0, f"warmup_epochs {self.warmup_epochs} must be at least 0")
        check(0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} must lie in 0 <= s < 1")
        check(0 < self.crop_area[0] <= self.crop_area[1] <= 1,
               f"crop_area {self.crop_area} must be 0 < low <= high <= 1")
        check(self.lighting >= 0, f"lighting {self.lighting} must be at least 0")
        check(self.view_group >= 1, f"view_group {self.view_group} must be at least 1")
        for name in ("bias_rate", "new_rate"):
            check(getattr(self, name) >= 0, f"{name} {getattr(self, name)} must be at least 0: it multiplies the rate")
        for name in ("conv1_slows", "conv1_stops", "lighting_stops"):
            check(getattr(self, name) >= 0, f"{name} {getattr(self, name)} must be an epoch, or 0 for never")
        check(self.trust >= 0, f"trust {self.trust} must be at least 0")
        check(not self.trust or self.rate_in_velocity,
              "trust is of LARS, whose rates are in the velocity; set recipe.rate_in_velocity=true with it")
        check(self.patience >= 1, f"patience {self.patience} must be at least 1")
        check(not (self.nesterov and self.rate_in_velocity),
               "nesterov is PyTorch's rule; set recipe.rate_in_velocity=false with it")


# --- The networks -----------------------------------------------------------------------------------------------------

_PAPER_CONV = (  # §3.5; biases and sigma: §5
    Conv(96, 11, stride=4, then="act norm pool"),
    Conv(256, 5, padding=2, within_tower=True, then="act norm pool", bias=1.0),
    Conv(384, 3, padding=1),
    Conv(384, 3, padding=1, within_tower=True, bias=1.0),
    Conv(256, 3, padding=1, within_tower=True, then="act pool", bias=1.0),
)

#: The paper, as printed: two towers, 224 pixels with the ceiling that makes 55 of them, LRN by its formula.
PAPER = Arch("paper", _PAPER_CONV, towers=2, lrn=LRN(within_tower=True), conv_rounding="ceil", pool_rounding="ceil")


def _each(layers: tuple[Conv, ...], **columns: tuple[Any, ...]) -> tuple[Conv, ...]:
    """The layers with some of their fields replaced, given as one column of values for each field."""
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return tuple(replace(layer, **row) for layer, row in zip(layers, rows, strict=True))


#: §6's network, with a sixth convolution behind the last pooling, which was pre-trained on all of ImageNet. The paper
#: gives neither its size nor its biases: here it is conv5 again, with the biases at 0.
PAPER_CONV6 = replace(
    PAPER, name="paper-conv6", conv=(*_PAPER_CONV, Conv(256, 3, padding=1, within_tower=True)))

#: code2012, layers-145: what made Table 2. ReLU after conv1's pooling, alpha / n, a second norm, sigma 0.03 in conv3-5.
CODE2012 = replace(
    PAPER, name="code2012", lrn=LRN(divide_by_n=True, within_tower=True),
    conv=_each(_PAPER_CONV, sigma=(0.01, 0.01, 0.03, 0.03, 0.03),
               then=("norm pool act", "act norm mapnorm pool", "act", "act", "act pool")))

_CAFFE_INPUT = InputSpec(side=256, crop=227, mean="pixel", channels="BGR")

#: Caffe's bvlc_alexnet: k = 1, LRN across the towers, biases 0.1 ("1 gave flat loss"), fc6 and fc7 sigma 0.005.
CAFFE = replace(
    PAPER, name="caffe", input=_CAFFE_INPUT, lrn=LRN(k=1.0, divide_by_n=True), conv_rounding="floor",
    conv=_each(_PAPER_CONV, bias=(0.0, 0.1, 0.0, 0.1, 0.1)), dense=(Dense(sigma=0.005, bias=0.1),) * 2)

#: Caffe's bvlc_reference_caffenet: pooling before normalisation; biases 1.
CAFFENET = replace(
    CAFFE, name="caffenet", dense=(Dense(sigma=0.005, bias=1.0),) * 2,
    conv=_each(_PAPER_CONV, then=("act pool norm", "act pool norm", "act", "act", "act pool")))

_TORCHVISION_CONV = (
    Conv(64, 11, stride=4, padding=2, then="act pool"),
    Conv(192, 5, padding=2, then="act pool"),
    Conv(384, 3, padding=1),
    Conv(256, 3, padding=1),  # the owt text says 384; its one-GPU code, and so torchvision, 256
    Conv(256, 3, padding=1, then="act pool"),
)

#: torchvision's alexnet: the one-GPU network of owt. Mean and scale are ImageNet's, on 0..255.
TORCHVISION = Arch(
    "torchvision", _TORCHVISION_CONV, norm="none", average_pool=6, dropout_before=True, initialisation="fan-in",
    input=InputSpec(mean=(123.675, 116.28, 103.53), scale=(58.395, 57.12, 57.375)), state_keys="torchvision")

#: §3.5's one-tower network at the paper's full widths: every convolution sees every map.
ONE_GPU = replace(PAPER, name="one-gpu", towers=1)

_UNIT_INPUT = InputSpec(mean="channel", scale=(58.0, 58.0, 58.0))

#: What follows each convolution where batch normalisation stands before every activation.
_BATCH_NORM = ("norm act pool", "norm act pool", "norm act", "norm act", "norm act pool")

#: The paper's layout with batch normalisation before every activation instead of LRN (after cvjena/cnn-models).
PAPER_BN = replace(
    PAPER, name="paper-bn", norm="batch", dense_norm=True, initialisation="kaiming", input=_UNIT_INPUT,
    conv=_each(_PAPER_CONV, then=_BATCH_NORM, bias=(0.0,) * 5),
    dense=(Dense(bias=0.0),) * 2)

#: torchvision's layout with batch normalisation before every activation.
TORCHVISION_BN = replace(
    TORCHVISION, name="torchvision-bn", norm="batch", dense_norm=True, initialisation="kaiming", state_keys="names",
    conv=_each(_TORCHVISION_CONV, then=_BATCH_NORM),
    dense=(Dense(bias=0.0),) * 2)

#: Figure 1's four-layer network for CIFAR-10. The paper does not print it; widths and kernels are those of
#: cuda-convnet's 18% network by the same author. The sigmas are its 0.0001, 0.01, 0.01 and 0.1, on inputs in 0..255.
CIFAR = Arch(
    "cifar",
    (Conv(32, 5, padding=2, then="act pool norm", sigma=0.0001),
     Conv(32, 5, padding=2, then="act pool norm"),
     Conv(64, 5, padding=2, then="act pool")),
    dense=(), classes=10, dropout=0.0, output_sigma=0.1, lrn=LRN(k=1.0, n=9, alpha=5e-5), pool_rounding="ceil",
    input=InputSpec(side=32, crop=28, mean="pixel"))

#: For photographs of 64 pixels and less: the paper's five convolutions and 3/2 pooling, at a size that suits them.
SMALL = Arch(
    "small",
    (Conv(48, 5, stride=2, padding=2, then="norm act pool"),
     Conv(96, 3, padding=1, then="norm act pool"),
     Conv(128, 3, padding=1, then="norm act"),
     Conv(128, 3, padding=1, then="norm act"),
     Conv(128, 3, padding=1, then="norm act pool")),
    dense=(Dense(256, bias=0.0),), classes=10, norm="batch", dense_norm=True, initialisation="kaiming",
    pool_rounding="ceil",  # so that 32 pixels, cropped to 28, are enough
    input=InputSpec(side=64, crop=56, mean="channel", scale=(58.0, 58.0, 58.0)))

ARCHS = {arch.name: arch for arch in (
    PAPER, PAPER_CONV6, CODE2012, CAFFE, CAFFENET, TORCHVISION, ONE_GPU, PAPER_BN, TORCHVISION_BN, CIFAR, SMALL)}

# --- The recipes ------------------------------------------------------------------------------------------------------

RECIPES = {recipe.name: recipe for recipe in (
    # §5 to the letter, with §4.1's augmentation; the plateau's patience is ours.
    Recipe("paper"),
    # The 2010 run's drops at epochs 23, 51 and 78 of 93; biases at twice the rate, undecayed; one crop for 32. Late,
    # at "about 67 to 72", conv1's rate fell to 1e-5 and then 0, and the colour noise to 0.
    Recipe("code2012", epochs=93, schedule="steps", drop_epochs=(23, 51, 78), bias_rate=2.0, decay_biases=False,
           view_group=32, conv1_slows=67, conv1_stops=72, lighting_stops=67),
    # models/bvlc_alexnet/solver.prototxt: a drop every 100,000 of 450,000 steps of 256, which is 20 epochs of ImageNet.
    Recipe("caffe", batch_size=256, schedule="steps", drop_epochs=(20, 40, 60, 80), bias_rate=2.0, decay_biases=False,
           lighting=0.0),
    # references/classification: 8 GPUs x 32, step 30, no lighting, the rate outside the velocity.
    Recipe("torchvision", batch_size=256, weight_decay=1e-4, rate_in_velocity=False, schedule="steps",
           drop_epochs=(30, 60), crop="resized", lighting=0.0),
    # What gets the lowest error today in few epochs; made for the batch-norm forms.
    Recipe("modern", epochs=30, rate=0.1, weight_decay=5e-4, decay_biases=False, rate_in_velocity=False, nesterov=True,
           schedule="linear", warmup_epochs=1.0, label_smoothing=0.1, crop="resized", crop_area=(0.25, 1.0)),
    # Large batches: LARS, with 1709.05011's five epochs of warm-up and its decay by the square. Made for the batch-norm
    # forms. The rate is ours: `small` learns Imagenette by it at 1,024 (24.9% after 15 epochs, one seed); at the batch
    # that stands here it has not been run.
    Recipe("lars", batch_size=8192, rate=10.0, trust=0.001, decay_biases=False, schedule="poly", warmup_epochs=5.0,
           lighting=0.0),
    # Fine-tuning (`--init`): a tenth of §5's rate, so that weights which know much are not shaken, and §5's own for
    # the layers that know nothing; falling to nothing. Small batches, since photographs are few. `finetune_recipe`
    # fits the rate to the network.
    Recipe("finetune", epochs=30, batch_size=32, rate=0.001, new_rate=10.0, schedule="cosine", lighting=0.0),
    # cuda-convnet's CIFAR-10 settings in kind: plain momentum, no colour noise, two drops.
    Recipe("cifar", epochs=60, rate=0.001, weight_decay=0.004, schedule="steps", drop_epochs=(50, 55), lighting=0.0,
           bias_rate=2.0, decay_biases=False),
)}


def default_recipe(arch: Arch) -> Recipe:
    """The recipe that goes with a network where none is named: its own, else `modern` with batch norm, else `paper`."""
    name = {"caffenet": "caffe"}.get(arch.name, arch.name)
    return RECIPES[name if name in RECIPES else "modern" if arch.norm == "batch" else "paper"]


def finetune_recipe(arch: Arch) -> Recipe:
    """`finetune` at a tenth of the rate at which that network is trained from nothing."""
    return replace(RECIPES["finetune"], rate=default_recipe(arch).rate / 10)


# --- Finding them -----------------------------------------------------------------------------------------------------


def slip_of(word: str, known: Iterable[str]) -> str | None:
    """The known word that an unknown one is a slip of the pen of, if there is one."""
    # Above 0.65 one letter of three may be wrong (fc9, fc6); below, tench answers to nosuch.
    return next(iter(difflib.get_close_matches(word, list(known), n=1, cutoff=0.65)), None)


def nearest(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` for an unknown word, or what is known, of a thousand classes the first thirty."""
    known = list(known)
    if close := slip_of(word, known):
        return f"did you mean {close}?"
    more = f" and {len(known) - 30:,} more" if len(known) > 30 else ""
    return f"known are {', '.join(known[:30])}{more}"


def arch(name: str) -> Arch:
    """The preset network of that name. Raises ValueError naming the nearest."""
    if name not in ARCHS:
        raise ValueError(f"there is no network {name!r}; {nearest(name, ARCHS)}")
    return ARCHS[name]


def recipe(name: str) -> Recipe:
    """The preset recipe of that name. Raises ValueError naming the nearest."""
    if name not in RECIPES:
        raise ValueError(f"there is no recipe {name!r}; {nearest(name, RECIPES)}")
    return RECIPES[name]
