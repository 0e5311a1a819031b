"""The training recipe, with sources: learning rate, momentum, weight decay, schedule, augmentation (color noise 0.1).

A recipe holds every value that changes the result of training, except the network, the data and the seed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from alexnet.errors import FieldError, require


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The defaults are the paper's."""

    name: str
    """Name of the preset that the recipe was made from."""
    epochs: int = 90
    """Passes through the training images (§5: roughly 90)."""
    batch_size: int = 128
    """Images per step, over all devices together (§5: 128)."""
    learning_rate: float = 0.01
    """Initial learning rate (§5: 0.01)."""
    optimizer: Literal["sgd", "lbfgs"] = "sgd"
    """`sgd`: stochastic gradient descent with momentum (§5). `lbfgs`: L-BFGS on the output layer alone, to whose inputs
    one pass over the images computes features (`train --head`); learning rate, momentum and schedule play no part."""
    momentum: float = 0.9
    """Share of the last update that is added to the next one (§5: 0.9)."""
    weight_decay: float = 0.0005
    """Strength of the pull of the weights towards 0 (§5: 0.0005). With the optimizer lbfgs, 0: chosen on held-out
    training images."""
    decay_biases: bool = True
    """Whether weight decay acts on biases too. §5's rule makes no exception; code2012 and Caffe decay weights only."""
    output_decay_factor: float = 1.0
    """Factor on the weight decay of the output layer (cuda-convnet's layers-18pct: 250, 1 in place of 0.004)."""
    bias_lr_factor: float = 1.0
    """Factor on the learning rate of biases (Caffe: 2; code2012: 2; code2010: 0.2)."""
    bias_lr_schedule: bool = True
    """Whether the learning rate of biases follows the schedule. False: it stays at bias_lr_factor x learning_rate for
    the whole run, except in frozen layers (code2012's log lowers only that of the weights)."""
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
    """Share of each label that is spread evenly over all classes (arXiv 1512.00567: 0.1)."""
    class_weights: Literal["off", "auto", "balanced"] | tuple[float, ...] = "off"
    """What an image's loss is multiplied by, for data whose classes differ in size. `balanced`: inversely to the number
    of its class's training images. `auto`: `balanced` where the largest class has more than three times the images of
    the smallest, else `off`. Or a weight for each class, in the order of the classes. The mean over the training
    images is 1."""
    class_weight_cap: float = 10.0
    """Class weights `balanced`: a class's weight is at most this many times that of the largest class."""
    clip_norm: float = 0.0
    """Gradient clipping: a longer gradient, over all layers together, is shortened to this Euclidean norm (arXiv
    1211.5063); 0: never."""
    ema_decay: float = 0.0
    """Weight averaging: the network that is evaluated and saved has an exponential moving average of the weights, with
    this decay per step (arXiv 1512.00567: 0.9999), and less in the first steps; 0: no averaging."""
    early_stop_epochs: int = 0
    """Early stopping: training ends after this many epochs without a lower top-1 error on the validation set; 0: it
    always lasts all epochs."""
    crop: Literal["window", "resized", "center"] = "window"
    """`window`: a random crop of the stored square (§4.1). `resized`: torchvision's RandomResizedCrop, but of the
    stored square: torchvision crops the whole image, before any part is cut off. `center`: the center crop."""
    crop_area: tuple[float, float] = (0.08, 1.0)
    """Crop `resized`: range of the crop's area, as a fraction of the image (torchvision: 0.08 to 1)."""
    train_crop: int = 0
    """Crop `resized`: side in pixels of the training views, where it differs from the side of the network's input
    (arXiv 1906.06423: smaller views train faster, and show objects as large as the larger center crop of evaluation
    does). Before each evaluation, batch normalization is fitted to the center crops of training images. For networks
    with average pooling, which take inputs of any side; 0: the side of the input."""
    mirror: bool = True
    """Mirror half of the training images horizontally (§4.1)."""
    lighting: float = 0.1
    """PCA color noise: standard deviation of its random factors (§4.1: 0.1); 0: no noise."""
    lighting_scale: Literal["eigenvalues", "deviations"] = "deviations"
    """What the random factors multiply. §4.1 prints eigenvalues, which only makes sense for pixels in 0..1.
    cuda-convnet2 has (19.7, 37.1, 121.8) on 0..255: their square roots, standard deviations."""
    lighting_rescale: bool = False
    """Divide training views by 1 + `lighting` while they have color noise, so that their scale stays near that of test
    images, which are not divided (code2012, convdata_jpeg.py)."""
    trivial_augment: bool = False
    """TrivialAugment, wide (arXiv 2103.10158): one random operation of 14 (rotation, shear, contrast, ...), of random
    strength, on each stored image before its crop."""
    erase_probability: float = 0.0
    """Random erasing (arXiv 1708.04896: 0.5): probability that a rectangle of a training view, 2% to 40% of its area,
    is set to the mean color; 0: never."""
    mixup_alpha: float = 0.0
    """Mixup (arXiv 1710.09412: 0.2): each training view is averaged with that of another image of the batch, and so is
    its loss. The view's weight is drawn from Beta(alpha, alpha); 0: no mixup."""
    cutmix_alpha: float = 0.0
    """CutMix (arXiv 1905.04899: 1): a rectangle of each training view shows another image of the batch, whose label
    counts by its share of the area. The share is drawn from Beta(alpha, alpha), 0: no CutMix. With mixup_alpha, each
    view has one of the two, with equal probability."""
    view_group: int = 1
    """Number of consecutive images in a batch that share one crop position and mirroring (code2012: 32)."""
    conv1_slow_epoch: int = 0
    """Epoch from which the learning rate of conv1's weights is at most 1e-5 (code2012's log: 67); 0: never."""
    conv1_stop_epoch: int = 0
    """Epoch from which conv1 is frozen, weights and biases (code2012's log: 72); 0: never."""
    lighting_stop_epoch: int = 0
    """Epoch from which there is no color noise (code2012's log: 67); 0: never."""
    freeze: str = ""
    """Layers whose weights do not change, for fine-tuning: `conv` (all convolutions), or names: `conv1 conv2`."""

    @property
    def mixes_images(self) -> bool:
        """Whether training views are mixed with other images of their batch."""
        return self.mixup_alpha > 0 or self.cutmix_alpha > 0

    def __post_init__(self) -> None:
        self._check_update_rule()
        self._check_schedule()
        self._check_augmentation()
        if self.optimizer == "lbfgs":
            self._check_lbfgs()

    def _require(self, field: str, holds: bool, rule: str, remedy: str = "") -> None:
        if not holds:
            raise FieldError(field, getattr(self, field), rule, remedy)

    def _check_update_rule(self) -> None:
        self._require("batch_size", self.batch_size >= 1, "must be at least 1")
        self._require("learning_rate", 0 < self.learning_rate < math.inf, "must be a positive number")
        self._require("momentum", 0 <= self.momentum < 1, "must lie in 0 <= m < 1")
        self._require("weight_decay", 0 <= self.weight_decay < math.inf, "must be at least 0")
        self._require("output_decay_factor", 0 <= self.output_decay_factor < math.inf, "must be at least 0")
        for name in ("bias_lr_factor", "new_layer_lr_factor"):
            self._require(name, getattr(self, name) >= 0, "must be at least 0: it multiplies the learning rate")
        self._require("lars_trust", self.lars_trust >= 0, "must be at least 0")
        require(not self.lars_trust or self.lr_in_velocity, "LARS has the learning rate in the velocity",
                "set recipe.lr_in_velocity=true with lars_trust")
        require(not (self.nesterov and self.lr_in_velocity), "nesterov belongs to PyTorch's update rule",
                "set recipe.lr_in_velocity=false with it")
        self._require("label_smoothing", 0 <= self.label_smoothing < 1, "must lie in 0 <= s < 1")
        self._require("class_weights", isinstance(self.class_weights, str) or (
            len(self.class_weights) > 0 and all(0 < weight < math.inf for weight in self.class_weights)),
            "must be positive numbers")
        self._require("class_weight_cap", self.class_weight_cap >= 1, "must be at least 1")
        self._require("clip_norm", 0 <= self.clip_norm < math.inf, "must be at least 0")
        require(not (self.clip_norm and self.lars_trust), "LARS divides each layer's gradient by its norm already",
                "leave out recipe.clip_norm, or set recipe.lars_trust=0")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "must lie in 0 <= d < 1")

    def _check_lbfgs(self) -> None:
        """L-BFGS minimizes the plain loss on center crops. A field that it would not obey must be off."""
        for name, off in (("output_decay_factor", 1.0), ("label_smoothing", 0.0), ("class_weights", "off"),
                          ("clip_norm", 0.0), ("ema_decay", 0.0), ("crop", "center"), ("lighting", 0.0),
                          ("trivial_augment", False), ("erase_probability", 0.0), ("mixup_alpha", 0.0),
                          ("cutmix_alpha", 0.0)):
            self._require(name, getattr(self, name) == off, f"must be {off} with the optimizer lbfgs (--head)",
                          "leave it out, or fine-tune without --head")

    def _check_schedule(self) -> None:
        self._require("epochs", self.epochs >= 1, "must be at least 1")
        self._require("lr_drop_count", self.lr_drop_count >= 1, "must be at least 1",
                      "for no drop, set recipe.schedule=constant")
        self._require("drop_factor", self.drop_factor > 1, "must exceed 1: the learning rate is divided by it")
        self._require("patience", self.patience >= 1, "must be at least 1")
        self._require("warmup_epochs", self.warmup_epochs >= 0, "must be at least 0")
        self._require("early_stop_epochs", 0 <= self.early_stop_epochs < self.epochs,
                      f"must lie in 0 <= e < {self.epochs}, the number of epochs")
        require(not self.early_stop_epochs or self.schedule != "plateau" or self.early_stop_epochs > self.patience,
                f"early_stop_epochs {self.early_stop_epochs} would end the run before the schedule `plateau` has "
                f"lowered the learning rate, after {self.patience} epochs", "let it exceed recipe.patience")
        for name in ("conv1_slow_epoch", "conv1_stop_epoch", "lighting_stop_epoch"):
            self._require(name, getattr(self, name) >= 0, "must be an epoch, or 0 for never")

    def _check_augmentation(self) -> None:
        self._require("crop_area", 0 < self.crop_area[0] <= self.crop_area[1] <= 1, "must be 0 < low <= high <= 1")
        self._require("train_crop", self.train_crop >= 0, "must be a side in pixels, or 0 for that of the input")
        require(not self.train_crop or self.crop == "resized", "train_crop sets the side of resized crops",
                "set recipe.crop=resized with it, or recipe.train_crop=0")
        self._require("lighting", self.lighting >= 0, "must be at least 0")
        self._require("erase_probability", 0 <= self.erase_probability <= 1, "must lie in 0 <= p <= 1")
        for name in ("mixup_alpha", "cutmix_alpha"):
            self._require(name, 0 <= getattr(self, name) <= 10, "must lie in 0 <= alpha <= 10")
        self._require("view_group", self.view_group >= 1, "must be at least 1")
