"""How a network is trained: every value that changes the result, except network, data and seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alexnet.errors import require


@dataclass(frozen=True)
class Recipe:
    """A way to train: everything that changes the result, but for the network, the data and the seed."""

    name: str
    epochs: int = 90
    """§5: roughly 90 cycles through the training set."""
    batch_size: int = 128
    """Images in a step over all devices together (§5: 128)."""
    learning_rate: float = 0.01
    momentum: float = 0.9
    weight_decay: float = 0.0005
    decay_biases: bool = True
    """§5's rule decays w, and names no exception; code2012 and Caffe decay the weights alone."""
    bias_lr_factor: float = 1.0
    """Factor on the rate of the biases (code2012 and Caffe: 2)."""
    new_layer_lr_factor: float = 1.0
    """Factor on the rate of layers that begin anew where the others begin from a checkpoint (Caffe's examples: 10)."""
    lr_in_velocity: bool = True
    """True: §5's v <- 0.9 v - 0.0005 eps w - eps dL/dw. False: PyTorch's, where the rate multiplies v outside."""
    nesterov: bool = False
    lars_trust: float = 0.0
    """LARS's coefficient (arXiv 1708.03888: 0.001), by which each layer's rate follows the size of its weights over
    that of their gradient; 0: one rate for all."""
    schedule: Literal["plateau", "steps", "cosine", "linear", "poly", "constant"] = "plateau"
    lr_drop_count: int = 3
    """How often a plateau or (by the length of `drop_epochs`) a step schedule lowers the rate."""
    drop_factor: float = 10.0
    drop_epochs: tuple[int, ...] = ()
    patience: int = 3
    """Epochs without a better validation error before the rate drops: §5 did it by hand and gives no number."""
    warmup_epochs: float = 0.0
    label_smoothing: float = 0.0
    crop: Literal["window", "resized", "center"] = "window"
    """`window`: a random crop of the stored side (§4.1). `resized`: torchvision's random area and ratio, rescaled."""
    crop_area: tuple[float, float] = (0.08, 1.0)
    mirror: bool = True
    lighting: float = 0.1
    """Standard deviation of PCA color noise (§4.1: 0.1); 0: none."""
    lighting_scale: Literal["eigenvalues", "deviations"] = "deviations"
    """What multiplies the noise. §4.1 prints eigenvalues, of pixels in 0..1 as far as that makes sense;
    cuda-convnet2 carries (19.7, 37.1, 121.8) on 0..255, which are their square roots, standard deviations."""
    view_group: int = 1
    """Images in a batch that share one crop and mirror (code2012: 32)."""
    conv1_slow_epoch: int = 0
    """Epoch from which on conv1's rate is 1e-5 at the most (code2012's log: about 67); 0: never."""
    conv1_stop_epoch: int = 0
    """Epoch from which on conv1 stays as it is (code2012's log: about 72); 0: never."""
    lighting_stop_epoch: int = 0
    """Epoch from which on colors have no noise (code2012's log: about 67); 0: never."""
    freeze: str = ""
    """Layers whose weights stay as they are, for fine-tuning: `conv`, all convolutions, or names: `conv1 conv2`."""

    def __post_init__(self) -> None:
        require(self.epochs >= 1, f"epochs {self.epochs} must be at least 1")
        require(self.batch_size >= 1, f"batch_size {self.batch_size} must be at least 1")
        require(self.learning_rate > 0, f"learning_rate {self.learning_rate} must be positive")
        require(0 <= self.momentum < 1, f"momentum {self.momentum} must lie in 0 <= m < 1")
        require(self.weight_decay >= 0, f"weight_decay {self.weight_decay} must be at least 0")
        require(self.lr_drop_count >= 1, f"lr_drop_count {self.lr_drop_count} must be at least 1; for none, set schedule=constant")
        require(self.drop_factor > 1, f"drop_factor {self.drop_factor} must exceed 1: the rate is divided by it")
        require(self.warmup_epochs >= 0, f"warmup_epochs {self.warmup_epochs} must be at least 0")
        require(0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} must lie in 0 <= s < 1")
        require(0 < self.crop_area[0] <= self.crop_area[1] <= 1,
               f"crop_area {self.crop_area} must be 0 < low <= high <= 1")
        require(self.lighting >= 0, f"lighting {self.lighting} must be at least 0")
        require(self.view_group >= 1, f"view_group {self.view_group} must be at least 1")
        for name in ("bias_lr_factor", "new_layer_lr_factor"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} must be at least 0: it multiplies the rate")
        for name in ("conv1_slow_epoch", "conv1_stop_epoch", "lighting_stop_epoch"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} must be an epoch, or 0 for never")
        require(self.lars_trust >= 0, f"trust {self.lars_trust} must be at least 0")
        require(not self.lars_trust or self.lr_in_velocity,
              "trust is of LARS, whose rates are in the velocity; set recipe.lr_in_velocity=true with it")
        require(self.patience >= 1, f"patience {self.patience} must be at least 1")
        require(not (self.nesterov and self.lr_in_velocity),
               "nesterov is PyTorch's rule; set recipe.lr_in_velocity=false with it")
