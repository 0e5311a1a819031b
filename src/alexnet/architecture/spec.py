"""The network as plain values: input (`InputSpec`), layers (`Conv`, `Dense`, `LRN`) and the whole (`Arch`).

Frozen dataclasses that validate themselves. They import no torch, so `alexnet explain` starts at once.
A variant is a preset (presets.py) plus overrides (overrides.py), never a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alexnet.errors import check

Activation = Literal["relu", "tanh", "sigmoid"]
Norm = Literal["lrn", "batch", "none"]
Rounding = Literal["floor", "ceil"]
Initialisation = Literal["gaussian", "fan-in", "kaiming"]

#: What may follow a convolution, in the order in which `Conv.then` names it.
STEPS = ("act", "norm", "mapnorm", "pool")


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
