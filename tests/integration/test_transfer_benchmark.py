"""benchmarks/transfer.py: which classes count as known, and what it refuses."""

import numpy as np
import pytest
import transfer

from alexnet.errors import UserError
from alexnet.models import packaged
from alexnet.models.formats.open_weights import open_weights


def test_the_packaged_network_knows_its_own_200_classes():
    known = transfer.known_wnids(open_weights("pretrained"))
    assert known == set(packaged.read_packaged_json(packaged.default_weights())["wnids"])
    assert "n01443537" in known  # goldfish
    assert "n01440764" not in known  # tench, of Imagenette


def test_a_class_with_too_few_images_is_refused_with_the_number_that_it_needs():
    rows = np.arange(20)
    source = transfer.Source("few", None, None)
    vars(source)["_shuffled"] = [rows]
    need = transfer.TUNING_IMAGES + 5 + transfer.WATCHED_IMAGES
    with pytest.raises(UserError, match=f"class of 20 training images, and --per-class 5 needs {need}"):
        source.draw(5, 0)
