"""Map of images: features in two dimensions by PCA and then t-SNE, so that similar images are near each other.

Shapes: N images, D features.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from alexnet._runtime.extras import install_line
from alexnet.errors import UserError, plural, require
from alexnet.inference.features import Features

PCA_COMPONENTS = 50
"""Principal components that t-SNE starts from (van der Maaten and Hinton 2008 use 30 to 50)."""

PERPLEXITY = 30.0
"""The number of neighbors that count as near; a third of the images at most."""

EXACT_IMAGES = 500
"""Up to so many images, exact gradients take less time than those of the Barnes-Hut tree (a quarter with 300)."""

FEWEST_IMAGES = 10


def embed(features_ND: Features) -> NDArray[np.float32]:
    """Map features to the plane: float32 [N, 2]. The seed is fixed, so the same features give the same map.

    Distances between groups, and the sizes of groups, mean nothing in a t-SNE map: only neighbors do.

    Raises:
        UserError: scikit-learn is missing, or there are fewer than FEWEST_IMAGES images.
    """
    require_map()
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    images, units = features_ND.shape
    require(images >= FEWEST_IMAGES, f"{plural(images, 'image')} {'is' if images == 1 else 'are'} too few for a map",
            f"give at least {FEWEST_IMAGES}")
    require(bool(np.isfinite(features_ND).all()), "the features are not finite", "use another checkpoint or layer")
    components = PCA(min(PCA_COMPONENTS, images, units), random_state=0).fit_transform(features_ND)
    plane_N2: NDArray[np.float32] = TSNE(
        perplexity=min(PERPLEXITY, (images - 1) / 3), init="pca", random_state=0,
        method="exact" if images <= EXACT_IMAGES else "barnes_hut").fit_transform(components)
    return plane_N2


def require_map() -> None:
    """Raise UserError if the `map` extra is missing."""
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise UserError("a map needs scikit-learn", install_line("map")) from error
