"""The network as plain values (`Arch`); defaults are the paper's: LRN's k and n, pooling, dropout 0.5, 224, std 0.01.

`Arch` and its parts (`InputSpec`, `Conv`, `Dense`, ...) are frozen dataclasses that validate themselves; each field has
its source. network_presets.py has the named networks; a variant is a preset with overrides (overrides.py), never a
copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alexnet.errors import require

Activation = Literal["relu", "tanh", "sigmoid"]
Norm = Literal["lrn", "batch", "none"]
Rounding = Literal["floor", "ceil"]
Initialization = Literal["gaussian", "fan-in", "kaiming"]

GAIN_SQUARED: dict[Activation, int] = {"relu": 2, "tanh": 1, "sigmoid": 16}
"""Variance of the weights of `kaiming` times the fan-in. ReLU: He et al., arXiv 1502.01852. tanh and sigmoid: 1 / d^2,
where d is the activation's derivative at 0 (tanh 1, sigmoid 1/4). Glorot and Bengio, AISTATS 2010, derive the variance
for d = 1."""

POST_OPS = ("act", "norm", "mapnorm", "pool", "avgpool")
"""What `Conv.post_ops` may name: activation, normalization, normalization within a map (`MapLRN`), max pooling, average
pooling."""


@dataclass(frozen=True)
class InputSpec:
    """Preprocessing from a stored image to the network's input. Travels with the weights."""

    side: int = 256
    """Side in pixels of the stored square (§2: shorter side rescaled to 256, then the central 256x256)."""
    crop: int = 224
    """Side in pixels of the crop that the network receives (§4.1: 224)."""
    mean: Literal["pixel", "channel"] | tuple[float, float, float] = "pixel"
    """What is subtracted, on 0..255: the training set's mean of each pixel (§2), of each channel, or given values
    (RGB)."""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Divisor per channel after the mean is subtracted, on 0..255 (§2: none)."""
    channels: Literal["RGB", "BGR"] = "RGB"
    """Channel order of the network's input (Caffe: BGR). `mean` and `scale` are RGB in either case."""
    mean_crop: Literal["own", "center"] = "own"
    """Which part of the mean of each pixel is subtracted from a view. `own`: the part at the view's own position,
    mirrored with it. `center`: the center crop of the mean, from every view, after mirroring (code2012,
    convdata_jpeg.py)."""

    def __post_init__(self) -> None:
        require(self.crop >= 1, f"crop {self.crop} must be at least 1 pixel")
        require(self.crop <= self.side, f"crop {self.crop} exceeds image side {self.side}",
                f"set arch.input.side to {self.crop} or more and pack with that --side")
        require(all(s > 0 for s in self.scale), f"scale {self.scale} must be positive in each channel")


@dataclass(frozen=True)
class LRN:
    """Local response normalization (§3.3): b = a / (k + alpha * sum over n neighboring maps of a^2) ^ beta."""

    k: float = 2.0
    """The constant below the power (§3.3: 2; Caffe and PyTorch: 1)."""
    n: int = 5
    """Number of neighboring maps in the sum, the map itself included (§3.3: 5)."""
    alpha: float = 1e-4
    """Factor on the sum of squares (§3.3: 1e-4)."""
    beta: float = 0.75
    """The exponent (§3.3: 0.75)."""
    divide_by_n: bool = False
    """LRN convention. False: the sum is multiplied by alpha, as §3.3 prints it. True: by alpha / n, as in code2012,
    Caffe and PyTorch."""
    within_tower: bool = False
    """Whether the sum stays within the maps of one GPU: §3.2 lets the towers communicate only before conv3 and from
    fc6 on."""

    def __post_init__(self) -> None:
        require(self.n >= 1 and self.n % 2 == 1, f"LRN over n={self.n} maps has no middle", "n must be odd")
        require(self.k > 0, f"LRN's k={self.k} must be positive, or an all-black image divides by zero")


@dataclass(frozen=True)
class MapLRN:
    """Local response normalization within a map: b = a / (1 + alpha / side^2 * sum over a window of a^2) ^ beta.

    The layer type `rnorm` of cuda-convnet. code2012 has it after conv2; the paper does not mention it.
    """

    side: int = 5
    """Side of the window around each activation, in its own map (code2012: 5; cuda-convnet's layers-18pct: 3)."""
    alpha: float = 0.001
    """Factor on the mean of the squares (code2012: 0.001; layers-18pct: 5e-5)."""
    beta: float = 0.75
    """The exponent (both: 0.75)."""

    def __post_init__(self) -> None:
        require(self.side >= 1 and self.side % 2 == 1, f"a window of side {self.side} has no middle",
                "the side must be odd")


@dataclass(frozen=True)
class Conv:
    """One convolutional layer and the operations after it."""

    width: int
    """Number of filters (§3.5: kernels), over all towers."""
    kernel: int
    """Side of each filter, in pixels of its input."""
    stride: int = 1
    """Distance between two positions of the filter, in pixels of its input (§3.5: 4 in conv1)."""
    padding: int = 0
    """Zeros added around the input, on each side."""
    grouped: bool = False
    """True: a grouped convolution, each tower reads only its own maps (§3.5: conv2, conv4, conv5). False: all maps."""
    post_ops: str = "act"
    """What follows, in order: names of `POST_OPS`, separated by spaces."""
    init_std: float = 0.01
    """Standard deviation of the initial weights (§5: 0.01)."""
    init_bias: float = 0.0
    """Initial bias (§5: 1 in conv2, conv4 and conv5, else 0)."""
    dilation: int = 1
    """Distance between two neighboring weights of the kernel, in input pixels; 1 in every AlexNet."""

    @property
    def effective_kernel(self) -> int:
        """Side of the area that a dilated kernel covers: dilation * (kernel - 1) + 1."""
        return self.dilation * (self.kernel - 1) + 1

    def __post_init__(self) -> None:
        for name in ("width", "kernel", "stride", "dilation"):
            require(getattr(self, name) >= 1, f"a convolution's {name} {getattr(self, name)} must be at least 1")
        require(self.padding >= 0, f"a convolution's padding {self.padding} must be at least 0")
        ops = self.post_ops.split()
        unknown = [op for op in ops if op not in POST_OPS]
        require(not unknown, f"unknown operation {' '.join(unknown)!r} in post_ops",
                f"operations are {', '.join(POST_OPS)}")
        require(len(set(ops)) == len(ops), f"post_ops {self.post_ops!r} names an operation twice")
        require(not {"pool", "avgpool"} <= {*ops}, f"post_ops {self.post_ops!r} has two poolings",
                "take pool (the maximum) or avgpool (the average)")


@dataclass(frozen=True)
class Dense:
    """One hidden fully connected layer."""

    width: int = 4096
    """Number of units (§3.5: 4096)."""
    init_std: float = 0.01
    """Standard deviation of the initial weights (§5: 0.01)."""
    init_bias: float = 1.0
    """Initial bias (§5: 1 in the hidden fully connected layers)."""

    def __post_init__(self) -> None:
        require(self.width >= 1, f"a fully connected layer's width {self.width} must be at least 1")


@dataclass(frozen=True)
class Arch:
    """A network: `conv` layers, hidden `dense` layers, and an output layer with one unit for each class.

    Layer names: conv1, conv2, ..., and with the count continued fc6, fc7, fc8. What follows a layer has its number:
    relu1 (tanh1, sigmoid1), norm1, mapnorm2, pool1, dropout6.
    """

    name: str
    """Name of the preset that the network was made from."""
    conv: tuple[Conv, ...]
    """The convolutional layers."""
    dense: tuple[Dense, ...] = (Dense(), Dense())
    """The hidden fully connected layers."""
    classes: int = 1000
    """Number of classes. Training takes it from the data."""
    input: InputSpec = InputSpec()
    """Preprocessing of the images."""
    towers: int = 1
    """Number of GPUs that the network is split over (§3.2, §3.5: 2); in other networks, of groups in its grouped
    convolutions (Caffe: group)."""
    activation: Activation = "relu"
    """Activation function of all hidden layers (§3.1: relu)."""
    norm: Norm = "lrn"
    """What `norm` in `Conv.post_ops` means: local response normalization (§3.3), batch normalization, or nothing."""
    lrn: LRN = LRN()
    """Constants of the local response normalization."""
    map_lrn: MapLRN = MapLRN()
    """Constants of `mapnorm`, the local response normalization within a map."""
    dense_norm: bool = False
    """Batch normalization between each hidden fully connected layer and its activation."""
    pool_kernel: int = 3
    """Side of the pooling window (§3.4: z = 3)."""
    pool_stride: int = 2
    """Stride of the pooling (§3.4: s = 2; smaller than the window, so that windows overlap)."""
    conv_rounding: Rounding = "floor"
    """Rounding of a convolution's output size. `ceil` (code2012): 1 + ceil((224 - 11) / 4) = 55, with zeros added at
    the right and bottom."""
    pool_rounding: Rounding = "floor"
    """Rounding of a pooling's output size. `ceil` in code2012 and Caffe."""
    average_pool: int = 0
    """Output side of an adaptive average pooling after the last convolution (torchvision: 6); 0: none."""
    dropout: float = 0.5
    """Probability that training zeroes a unit. The others are scaled by 1 / (1 - p), which equals §4.2's factor 0.5
    at test time."""
    dropout_on_inputs: bool = False
    """Where dropout acts. False: on the outputs of the hidden layers (§4.2). True: on their inputs (torchvision)."""
    initialization: Initialization = "gaussian"
    """`gaussian`: each layer's init_std (§5); `fan-in`: torch's default; `kaiming`: normal, with a variance
    that keeps the signal's: 2 / fan-in for ReLU, 1 / fan-in for tanh, 16 / fan-in for sigmoid (`GAIN_SQUARED`)."""
    output_init_std: float = 0.01
    """Standard deviation of the output layer's initial weights (§5: 0.01)."""
    output_init_bias: float = 0.0
    """Initial bias of the output layer (§5: 0)."""
    state_keys: Literal["names", "torchvision"] = "names"
    """Keys of the state dict: features.conv1.weight, or torchvision's features.0.weight."""

    def __post_init__(self) -> None:
        require(len(self.conv) >= 1, f"{self.name} has no convolution", "give at least one")
        require(self.classes >= 2, f"classes {self.classes} must be at least 2: with one class every answer is right")
        require(self.towers >= 1, f"towers {self.towers} must be at least 1")
        require(0 <= self.dropout < 1, f"dropout {self.dropout} must lie in 0 <= p < 1")
        require(self.pool_kernel >= 1 and self.pool_stride >= 1,
                f"pooling {self.pool_kernel}/{self.pool_stride} must be at least 1 in kernel and stride")
        require(self.average_pool >= 0, f"average_pool {self.average_pool} must be 0 (none) or a side in pixels")
        for number, conv in enumerate(self.conv, 1):
            require(not conv.grouped or number > 1, "conv1 reads the whole image, so its grouped must be false")
            for width in (conv.width, self.conv[max(number - 2, 0)].width) if conv.grouped else ():
                self._check_split(f"conv{number}", width)
            if self.lrn.within_tower and self.norm == "lrn" and "norm" in self.post_ops(number):
                self._check_split(f"norm{number}", conv.width)

    def _check_split(self, layer: str, width: int) -> None:
        require(width % self.towers == 0,
                f"{layer} splits {width} maps over {self.towers} towers, which is not a whole number each",
                f"make the width a multiple of {self.towers}")

    def groups(self, number: int) -> int:
        """Groups of convolution `number`, counted from 1."""
        return self.towers if self.conv[number - 1].grouped else 1

    @property
    def has_gpu_towers(self) -> bool:
        """Whether the towers are the paper's, one on each GPU. Else they are only groups of convolutions.

        A response normalization over the maps of both halves, as Caffe's, would need an exchange in every such layer.
        Networks with batch normalization or none keep the setting of the network that they were made from.
        """
        return self.towers > 1 and self.lrn.within_tower

    @property
    def part_name(self) -> str:
        """What one of the `towers` is called: "tower" where they are the paper's, else "group"."""
        return "tower" if self.has_gpu_towers else "group"

    def post_ops(self, number: int) -> list[str]:
        """Operations after convolution `number`, counted from 1, without `norm` where the network has none."""
        return [op for op in self.conv[number - 1].post_ops.split() if op != "norm" or self.norm != "none"]


def layer_kind_and_number(name: str) -> tuple[str, int | None]:
    """The parts of a layer's name: "conv", 1 of conv1; "average_pool", None of average_pool."""
    kind = name.rstrip("0123456789")
    return kind, int(name[len(kind):]) if kind != name else None
