"""`predict` names the images that no network can classify: they get a class like any other."""

import numpy as np
import pytest
from PIL import Image

from command_line import alexnet

pytestmark = pytest.mark.usefixtures("one_thread")


def test_predict_names_a_panorama_a_tiny_image_and_images_of_one_color(tmp_path, capsys):
    rng = np.random.default_rng(0)

    def noise(height, width):
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8).repeat(10, 0).repeat(10, 1))

    noise(10, 10).save(tmp_path / "fine.png")
    assert alexnet("predict", tmp_path / "fine.png") == 0
    assert "note: " not in capsys.readouterr().err.replace("note: the network is not sure", "")
    noise(10, 200).save(tmp_path / "panorama.png")
    Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8)).save(tmp_path / "tiny.png")
    Image.new("RGBA", (100, 100), (200, 0, 0, 0)).save(tmp_path / "transparent.png")
    Image.new("RGB", (100, 100), (128, 128, 128)).save(tmp_path / "gray.png")
    assert alexnet("predict", tmp_path) == 0
    printed = capsys.readouterr()
    assert printed.out.count(".png") == 5
    notes = [line for line in printed.err.splitlines() if line.startswith("note: ")]
    assert ("note: 1 image is smaller than the square that the network's input is cut from, and enlarged, so that the "
            f"prediction may mean little: {tmp_path}/tiny.png; use a larger version") in notes
    assert ("note: 1 image has one side more than 3 times as long as the other, and the network sees the central "
            f"square alone: {tmp_path}/panorama.png; cut out the part that matters") in notes
    assert ("note: 2 images show the network one color and nothing else (transparent parts become white), so that the "
            f"prediction means nothing, such as {tmp_path}/gray.png; leave it out, or save it without transparency"
            ) in notes
