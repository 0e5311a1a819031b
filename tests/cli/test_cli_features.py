"""The `features` and `map` commands: files for other software, and a page that a browser opens offline."""

import json
import re
import shutil

import numpy as np
import pytest

from alexnet._runtime.extras import install_line
from command_line import alexnet


def test_features_writes_all_images_and_says_so(run, class_folders, tmp_path, capsys):
    out = tmp_path / "out.npz"
    assert alexnet("features", run, class_folders, out, "--layer", "fc6", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    saved = np.load(out)
    assert saved["features"].shape == (told["images"], told["features"]) == (164, 256)
    assert str(saved["checkpoint"]) == alexnet_sha(run)
    assert alexnet("features", run, class_folders, tmp_path / "val.npz", "--split", "val", "--layer", "conv5",
                   "--pool") == 0
    assert "44 images, 16 features each (conv5, averaged over each map)" in capsys.readouterr().out


def alexnet_sha(run):
    from alexnet.models import checkpoint

    return checkpoint.load(run).describe()["sha256"]


@pytest.mark.parametrize(("arguments", "problem"), [
    (["out.csv"], "ends in .csv"), (["out.npz", "--layer", "fc9"], "did you mean fc"),
    (["out.npz", "--layer", "fc6", "--pool"], "no feature maps")])
def test_features_refuses_before_packing(run, class_folders, tmp_path, capsys, monkeypatch, arguments, problem):
    monkeypatch.chdir(tmp_path)
    assert alexnet("features", run, class_folders, *arguments) == 2
    told = capsys.readouterr().err
    assert problem in told
    assert "packing" not in told
    assert not list(tmp_path.glob("out*"))


def test_map_needs_scikit_learn(run, class_folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    assert alexnet("map", run, class_folders, "--out", tmp_path / "map.html") == 2
    assert install_line("map") in capsys.readouterr().err


def test_map_shows_each_image_on_hover_and_makes_no_request(run, class_folders, tmp_path, capsys, browser):
    page_file = tmp_path / "map.html"
    assert alexnet("map", run, class_folders, "--out", page_file) == 0
    assert "44 images" in capsys.readouterr().out
    requests, errors = [], []
    page = browser.new_page()
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(page_file.as_uri())
    assert page.locator("circle").count() == 44
    page.locator("circle").nth(43).dispatch_event("click")
    assert page.locator("#chosen strong").inner_text() == "date palm"
    assert "010.png" in page.locator("#chosen span").inner_text()
    assert page.locator("#chosen img").evaluate("image => image.decode().then(() => image.naturalWidth)") == 32
    page.get_by_role("button", name="birch").click()
    assert page.locator("circle.is-kept").count() == 11
    assert page.locator("circle.is-trained").count() == 0
    assert not errors
    assert [url for url in requests if not url.startswith(("file:", "data:"))] == []
    page.close()


def test_a_map_marks_the_images_that_the_network_was_trained_on(run, class_folders, tmp_path):
    page_file = tmp_path / "map.html"
    data = shutil.copytree(class_folders / "val", tmp_path / "data")
    for number in range(3):
        shutil.copy(class_folders / "train" / "ash" / f"{number:03}.png", data / "ash" / f"copy {number}.png")
    assert alexnet("map", run, data, "--out", page_file) == 0
    text = " ".join(page_file.read_text(encoding="utf-8").split())
    assert "Pale: the network was trained on the image (3 of 47)" in text
    points = json.loads(re.search(r"const points = (.*?), names = ", text).group(1))
    assert {point[3] for point in points if point[5]} == {f"ash/copy {number}.png" for number in range(3)}


def test_a_map_of_some_images_says_how_many_are_left_out(run, class_folders, tmp_path, capsys):
    assert alexnet("map", run, class_folders, "--images", 20, "--out", tmp_path / "map.html") == 0
    assert "20 images of 44; the others are left out" in capsys.readouterr().out
    assert "The other 24 of the split's" in (tmp_path / "map.html").read_text()
    assert alexnet("map", run, class_folders, "--images", 5, "--out", tmp_path / "few.html") == 2
    assert "too few for a map" in capsys.readouterr().err


def test_images_of_a_class_are_neighbors_on_the_map():
    from alexnet.inference.image_map import embed

    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    features = (np.eye(3)[labels] @ rng.normal(size=(3, 200)) * 5 + rng.normal(size=(90, 200))).astype(np.float32)
    plane = embed(features)
    distances = np.linalg.norm(plane[:, None] - plane, axis=2) + np.eye(90) * 1e9
    assert (labels[distances.argmin(1)] == labels).mean() > 0.95
    np.testing.assert_array_equal(embed(features), plane)


def test_names_cannot_end_the_pages_script():
    from alexnet._runtime.html_page import script_json

    text = str(script_json({"name": "</script><!--<script>"}))
    assert "<" not in text
    assert json.loads(text) == {"name": "</script><!--<script>"}
