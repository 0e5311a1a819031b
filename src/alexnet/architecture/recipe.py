"""The training recipe: learning rate, momentum, weight decay, schedule, augmentation, each field with its source.

A recipe holds every value that changes the result of training, except the network, the data and the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from alexnet.errors import require


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's."""

    name: str
    epochs: int = 90
    """§5: roughly 90 cycles through the training set."""
    batch_size: int = 128
    """Images per step, over all devices together (§5: 128)."""
    learning_rate: float = 0.01
    """Initial learning rate (§5: 0.01)."""
    momentum: float = 0.9
    """§5: 0.9."""
    weight_decay: float = 0.0005
    """§5: 0.0005."""
    decay_biases: bool = True
    """Whether weight decay acts on biases too. §5's rule makes no exception; code2012 and Caffe decay weights only."""
    bias_lr_factor: float = 1.0
    """Factor on the learning rate of biases (code2012 and Caffe: 2)."""
    new_layer_lr_factor: float = 1.0
    """Factor on the learning rate of newly initialized layers, when the others start from a checkpoint (Caffe's
    fine-tuning example: 10)."""
    lr_in_velocity: bool = True
    """Update rule. True: §5's v <- 0.9 v - 0.0005 eps w - eps dL/dw. False: PyTorch's, which multiplies v by the
    learning rate only when it changes the weights."""
    nesterov: bool = False
    """PyTorch's Nesterov momentum; needs lr_in_velocity=false."""
    lars_trust: float = 0.0
    """LARS's trust coefficient (arXiv 1708.03888: 0.001): each layer's learning rate is multiplied by it and by
    |weights| / |gradient|. 0: one learning rate for all layers."""
    schedule: Literal["plateau", "steps", "cosine", "linear", "poly", "constant"] = "plateau"
    """How the learning rate falls (training/schedule.py). §5 divided it by hand when the validation error stopped
    improving, which `plateau` does automatically."""
    lr_drop_count: int = 3
    """Schedule `plateau`: how many times the learning rate drops at most (§5: three times)."""
    drop_factor: float = 10.0
    """What each drop divides the learning rate by (§5: 10)."""
    drop_epochs: tuple[int, ...] = ()
    """Schedule `steps`: the epochs after which the learning rate is divided."""
    patience: int = 3
    """Schedule `plateau`: epochs without a lower validation error before the learning rate drops. §5 gives no
    number."""
    warmup_epochs: float = 0.0
    """Epochs in which the learning rate rises linearly at the start."""
    label_smoothing: float = 0.0
    crop: Literal["window", "resized", "center"] = "window"
    """`window`: a random crop of the stored square (§4.1). `resized`: torchvision's RandomResizedCrop. `center`: the
    center crop."""
    crop_area: tuple[float, float] = (0.08, 1.0)
    """Crop `resized`: range of the crop's area, as a fraction of the image (torchvision: 0.08 to 1)."""
    mirror: bool = True
    """Mirror half of the training images horizontally (§4.1)."""
    lighting: float = 0.1
    """PCA color noise: standard deviation of its random factors (§4.1: 0.1); 0: no noise."""
    lighting_scale: Literal["eigenvalues", "deviations"] = "deviations"
    """What the random factors multiply. §4.1 prints eigenvalues, which only makes sense for pixels in 0..1.
    cuda-convnet2 has (19.7, 37.1, 121.8) on 0..255: their square roots, standard deviations."""
    view_group: int = 1
    """Number of consecutive images in a batch that share one crop position and mirroring (code2012: 32)."""
    conv1_slow_epoch: int = 0
    """Epoch from which conv1's learning rate is at most 1e-5 (code2012's log: about 67); 0: never."""
    conv1_stop_epoch: int = 0
    """Epoch from which conv1 is frozen (code2012's log: about 72); 0: never."""
    lighting_stop_epoch: int = 0
    """Epoch from which there is no color noise (code2012's log: about 67); 0: never."""
    freeze: str = ""
    """Layers whose weights do not change, for fine-tuning: `conv` (all convolutions), or names: `conv1 conv2`."""

    def __post_init__(self) -> None:
        self._check_update_rule()
        self._check_schedule()
        self._check_augmentation()

    def _check_update_rule(self) -> None:
        require(self.batch_size >= 1, f"batch_size {self.batch_size} must be at least 1")
        require(self.learning_rate > 0, f"learning_rate {self.learning_rate} must be positive")
        require(0 <= self.momentum < 1, f"momentum {self.momentum} must lie in 0 <= m < 1")
        require(self.weight_decay >= 0, f"weight_decay {self.weight_decay} must be at least 0")
        for name in ("bias_lr_factor", "new_layer_lr_factor"):
            require(getattr(self, name) >= 0,
                    f"{name} {getattr(self, name)} must be at least 0: it multiplies the learning rate")
        require(self.lars_trust >= 0, f"lars_trust {self.lars_trust} must be at least 0")
        require(not self.lars_trust or self.lr_in_velocity, "LARS has the learning rate in the velocity",
                "set recipe.lr_in_velocity=true with lars_trust")
        require(not (self.nesterov and self.lr_in_velocity), "nesterov belongs to PyTorch's update rule",
                "set recipe.lr_in_velocity=false with it")
        require(0 <= self.label_smoothing < 1, f"label_smoothing {self.label_smoothing} must lie in 0 <= s < 1")

    def _check_schedule(self) -> None:
        require(self.epochs >= 1, f"epochs {self.epochs} must be at least 1")
        require(self.lr_drop_count >= 1, f"lr_drop_count {self.lr_drop_count} must be at least 1",
                "for no drop, set recipe.schedule=constant")
        require(self.drop_factor > 1,
                f"drop_factor {self.drop_factor} must exceed 1: the learning rate is divided by it")
        require(self.patience >= 1, f"patience {self.patience} must be at least 1")
        require(self.warmup_epochs >= 0, f"warmup_epochs {self.warmup_epochs} must be at least 0")
        for name in ("conv1_slow_epoch", "conv1_stop_epoch", "lighting_stop_epoch"):
            require(getattr(self, name) >= 0, f"{name} {getattr(self, name)} must be an epoch, or 0 for never")

    def _check_augmentation(self) -> None:
        require(0 < self.crop_area[0] <= self.crop_area[1] <= 1,
                f"crop_area {self.crop_area} must be 0 < low <= high <= 1")
        require(self.lighting >= 0, f"lighting {self.lighting} must be at least 0")
        require(self.view_group >= 1, f"view_group {self.view_group} must be at least 1")
