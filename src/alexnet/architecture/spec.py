"""The network as plain values: input (`InputSpec`), layers (`Conv`, `Dense`, `LRN`) and the whole (`Arch`).

Frozen dataclasses that validate themselves. They import no torch, so `alexnet explain` starts at once.
A variant is a preset (presets.py) plus overrides (overrides.py), never a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alexnet.errors import require

Activation = Literal["relu", "tanh", "sigmoid"]
Norm = Literal["lrn", "batch", "none"]
Rounding = Literal["floor", "ceil"]
Initialization = Literal["gaussian", "fan-in", "kaiming"]

#: What may follow a convolution, in the order in which `Conv.post_ops` names it.
STEPS = ("act", "norm", "mapnorm", "pool")


@dataclass(frozen=True)
class InputSpec:
    """The way from a stored image to the network's input; travels with the weights."""

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
        require(self.crop >= 1, f"crop {self.crop} must be at least 1 pixel")
        require(self.crop <= self.side, f"crop {self.crop} exceeds photo side {self.side}; "
               f"set arch.input.side to {self.crop} or more and pack with that --side")
        require(all(s > 0 for s in self.scale), f"scale {self.scale} must be positive in each channel")


@dataclass(frozen=True)
class LRN:
    """Local response normalization (§3.3): b = a / (k + alpha * sum over n neighboring maps of a^2) ^ beta."""

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    divide_by_n: bool = False
    """The printed formula multiplies the sum by alpha; code2012, Caffe and PyTorch multiply it by alpha / n."""
    within_tower: bool = False
    """Whether a map's neighbors end at its own GPU: §3.2 lets the towers meet only from conv2 to conv3 and later."""

    def __post_init__(self) -> None:
        require(self.n >= 1 and self.n % 2 == 1, f"LRN over n={self.n} maps has no middle; n must be odd")
        require(self.k > 0, f"LRN's k={self.k} must be positive, or a dark picture divides by zero")


@dataclass(frozen=True)
class Conv:
    """One convolutional layer and what follows it."""

    width: int
    """Number of kernels, over all towers."""
    kernel: int
    stride: int = 1
    padding: int = 0
    grouped: bool = False
    """True: each tower sees only its own maps (§3.5: conv2, conv4, conv5), a grouped convolution. False: all maps."""
    post_ops: str = "act"
    """What follows, in order, of `act norm mapnorm pool`; `mapnorm` is code2012's 5x5 normalization within a map."""
    init_std: float = 0.01
    init_bias: float = 0.0
    dilation: int = 1
    """Pixels from one of the kernel's to the next; 1 in every AlexNet."""

    @property
    def effective_kernel(self) -> int:
        """Side of what the kernel covers, the gaps of its dilation included."""
        return self.dilation * (self.kernel - 1) + 1

    def __post_init__(self) -> None:
        for name in ("width", "kernel", "stride", "dilation"):
            require(getattr(self, name) >= 1, f"a convolution's {name} {getattr(self, name)} must be at least 1")
        require(self.padding >= 0, f"a convolution's padding {self.padding} must be at least 0")
        unknown = [step for step in self.post_ops.split() if step not in STEPS]
        require(not unknown, f"unknown step {' '.join(unknown)!r} after a convolution; steps are {', '.join(STEPS)}")
        require(len(set(self.post_ops.split())) == len(self.post_ops.split()), f"a step stands twice in {self.post_ops!r}")


@dataclass(frozen=True)
class Dense:
    """One hidden fully connected layer."""

    width: int = 4096
    init_std: float = 0.01
    init_bias: float = 1.0

    def __post_init__(self) -> None:
        require(self.width >= 1, f"a fully connected layer's width {self.width} must be at least 1")


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
    """What `norm` stands for in each `Conv.post_ops`."""
    lrn: LRN = LRN()
    dense_norm: bool = False
    """Batch normalization between each hidden fully connected layer and its activation."""
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
    initialization: Initialization = "gaussian"
    """`gaussian`: each layer's own sigma; `fan-in`: torch's default; `kaiming`: normal, variance 2 / fan-in."""
    output_init_std: float = 0.01
    output_init_bias: float = 0.0
    state_keys: Literal["names", "torchvision"] = "names"
    """Keys of the state dict: features.conv1.weight, or torchvision's features.0.weight."""

    def __post_init__(self) -> None:
        require(len(self.conv) >= 1, f"{self.name} has no convolution; give at least one")
        require(self.classes >= 2, f"classes {self.classes} must be at least 2: one class leaves nothing to tell apart")
        require(self.towers >= 1, f"towers {self.towers} must be at least 1")
        require(0 <= self.dropout < 1, f"dropout {self.dropout} must lie in 0 <= p < 1")
        require(self.pool_kernel >= 1 and self.pool_stride >= 1,
               f"pooling {self.pool_kernel}/{self.pool_stride} must be at least 1 in kernel and stride")
        require(self.average_pool >= 0, f"average_pool {self.average_pool} must be 0 (none) or a side in pixels")
        for number, conv in enumerate(self.conv, 1):
            require(not conv.grouped or number > 1, "conv1 sees the image whole; grouped cannot be true")
            for width in (conv.width, self.conv[max(number - 2, 0)].width):
                require(not conv.grouped or width % self.towers == 0,
                       f"conv{number} splits {width} maps over {self.towers} towers, which does not go up; "
                       f"make the width a multiple of {self.towers}")
        if self.lrn.within_tower and self.norm == "lrn":
            for number, conv in enumerate(self.conv, 1):
                require("norm" not in conv.post_ops.split() or conv.width % self.towers == 0,
                       f"norm{number} splits {conv.width} maps over {self.towers} towers, which does not go up")

    def groups(self, number: int) -> int:
        """Groups of convolution `number`, counted from 1."""
        return self.towers if self.conv[number - 1].grouped else 1

    def steps(self, number: int) -> list[str]:
        """What follows convolution `number`, counted from 1, with a norm of `none` left out."""
        return [step for step in self.conv[number - 1].post_ops.split() if step != "norm" or self.norm != "none"]
