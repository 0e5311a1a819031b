"""One network that the server offers, immutable: its name, weights' SHA-256, samples, and the calls of the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from alexnet.errors import require
from alexnet.inference.evaluate import softmax_of_views
from alexnet.inference.predictor import Model
from alexnet.models.checkpoint import weights_sha256
from alexnet.models.checkpoint_json import ErrorsJson
from alexnet.serving.explanations import Explanation, ReferenceSet, explain_image
from alexnet.serving.samples import Sample

DEFAULT_NAME = "alexnet"
"""Name of the model, where the server has one and the command line gives it no name."""


VIEWS = 10
"""Of an image whose prediction is averaged over views (§4.1)."""


class Output(NamedTuple):
    """The network's output for one image.

    Attributes:
        probabilities_K: float32, of one view, one of ten, or averaged over ten.
        logits_K: float32, divided by the temperature of one view; None for ten views, whose average is taken after the
            softmax.
    """

    probabilities_K: NDArray[np.float32]
    logits_K: NDArray[np.float32] | None


def average_views(outputs: Sequence[Output]) -> list[Output]:
    """The output for each image from those for its ten views (§4.1), which follow each other."""
    rows_NVK = np.stack([output.probabilities_K for output in outputs]).reshape(len(outputs) // VIEWS, VIEWS, -1)
    return [Output(row_K, None) for row_K in rows_NVK.mean(1)]


@dataclass(frozen=True, eq=False)
class ServedModel:
    """A network with what the server knows of it. A request uses one from its begin to its end.

    Attributes:
        model: the network with its preprocessing and classes.
        validation: validation errors, from the checkpoint.
        reference_set: images among which /explain searches neighbors.
        samples: images that the page offers.
        name: in the paths of several models.
        load: loads the checkpoint again: the model and its validation errors. None: there is no checkpoint.
        sure_from: the user's threshold of "not sure"; None: `confidence.SURE_FROM` of a calibrated network.
        sha256: of the weights, in hexadecimal digits.
    """

    model: Model
    validation: ErrorsJson = field(default_factory=ErrorsJson)
    reference_set: ReferenceSet | None = None
    samples: Sequence[Sample] = ()
    name: str = DEFAULT_NAME
    load: Callable[[], tuple[Model, ErrorsJson]] | None = None
    sure_from: float | None = None
    sha256: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sha256", weights_sha256(self.model.network.state_dict()))

    @property
    def version(self) -> str:
        """Its version in the Open Inference Protocol: the first digits of the SHA-256."""
        return self.sha256[:12]

    @property
    def side(self) -> int:
        """Side of the decoded images, in pixels."""
        return self.model.preprocess.spec.side

    def reloaded(self) -> ServedModel:
        """Load the checkpoint again.

        Raises:
            UserError: there is none, or it cannot be loaded, or has other inputs or outputs.
        """
        require(self.load is not None, f"{self.name} has no checkpoint")
        assert self.load
        model, validation = self.load()
        side = model.preprocess.spec.side
        require(side == self.side, f"the checkpoint is for images of {side} pixels a side, and not {self.side}",
                "start another server for it")
        require(model.classes == self.model.classes, "the checkpoint has other classes", "start another server for it")
        references = self.reference_set.for_model(model) if self.reference_set else None
        return replace(self, model=model, validation=validation, reference_set=references)

    def forward(self, images: NDArray[np.uint8 | np.float32], views: Sequence[int] | None) -> list[Output]:
        """The output for one view of each image; runs in the network's thread.

        Args:
            images: uint8 [N, side, side, 3], pixels; or float32 [N, 3, crop, crop], which are not preprocessed.
            views: the number of each image's view in `Preprocess.ten_views`. None: center crops, or float32.
        """
        network, preprocess = self.model.inference_network, self.model.preprocess
        with torch.inference_mode():
            tensor = torch.from_numpy(images).to(preprocess.mean_HWC.device)
            if views is not None:
                tensor = preprocess.numbered_views(tensor, torch.tensor(views))
            elif tensor.dtype == torch.uint8:
                tensor = preprocess(tensor)
            logits_NK = network(tensor).float()
            outputs_NK = logits_NK.softmax(-1) if views is None else softmax_of_views(network, logits_NK)
            return [Output(*rows) for rows in zip(outputs_NK.cpu().numpy(), logits_NK.cpu().numpy(), strict=True)]

    def explain(self, pixels_HWC: NDArray[np.uint8], label: str | None = None) -> Explanation:
        """Explain the prediction for one image; runs in the network's thread."""
        return explain_image(self.model, pixels_HWC, self.reference_set, label)
