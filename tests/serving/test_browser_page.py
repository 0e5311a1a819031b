"""The page of `alexnet export --to web`: it answers as `predict` does, shows every layer, and asks no other host."""

import base64
import functools
import http.server
import io
import tarfile
import threading

import numpy as np
import pytest
from PIL import Image

import alexnet
import requirements
from alexnet.architecture.arithmetic import explain
from alexnet.data.square import square
from alexnet.models.formats.open_weights import open_weights
from alexnet.serving.browser import network_file, page, runtime
from sample_images import photograph_crops
from shared_folders import once
from weight_files import narrow

pytestmark = pytest.mark.needs("onnx", "pip install 'alexnet[export]'")

TARBALL = runtime.cached_tarball()
"""Where `make test` puts onnxruntime-web. Read before a test changes the cache's folder."""


@pytest.fixture(scope="module")
def engine():
    if not TARBALL.is_file():
        requirements.missing(f"onnxruntime-web is not in {TARBALL.parent}; `make test` downloads it, where there is a "
                             "network")
    return runtime.read_runtime(TARBALL)


@pytest.fixture(scope="module")
def folder(engine, tmp_path_factory):
    """The pretrained network's page, as the folder `site` and as the file page.html."""
    def write(root):
        saved = open_weights("pretrained")
        network = network_file.make_network_file(saved)
        assert network.precision == "fp16"
        page.write_browser_page(root / "site", saved, network, engine)
        page.write_browser_page(root / "page.html", saved, network, engine)

    return once(tmp_path_factory, "browser-page", write)


@pytest.fixture(scope="module")
def address(folder):
    """The URL of the folder behind a server of static files."""
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder / "site"))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def opened(browser):
    """`opened(url, ...)` opens the page and waits for its first answer. It must log nothing and ask nobody else."""
    contexts = []

    def open_(url, width=1200, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, **options)
        shown, asked, said = context.new_page(), [], []
        shown.on("request", lambda request: asked.append(request.url))
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.goto(url)
        shown.locator("#result").wait_for(timeout=120_000)
        contexts.append((context, url, asked, said))
        return shown

    yield open_
    for context, url, asked, said in contexts:
        assert [other for other in asked if not other.startswith((url, "blob:", "data:"))] == []
        assert said == []
        context.close()


@pytest.fixture(scope="module")
def alone(opened, folder):
    """The one file, opened from the disk."""
    return opened((folder / "page.html").as_uri())


def png(pixels_HWC):
    file = io.BytesIO()
    Image.fromarray(pixels_HWC).save(file, "PNG")
    return file.getvalue()


def smooth_image(seed):
    """A picture of random size and smooth random colors: uint8 [height, width, 3]."""
    rng = np.random.default_rng(seed)
    width, height = (int(side) for side in rng.integers(60, 400, 2))
    colors = rng.integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(colors).resize((width, height), Image.Resampling.BICUBIC))


def timed_answer(shown, data, kind="image/png"):
    """The probabilities that the page computes for an image file, and two times in ms.

    They are the time from the file until the page shows the answer and all layers (decode, rescale, network, draw), and
    the times of the network alone. It runs again, up to ten times, until it takes less than 50 ms, because other
    processes of the machine may delay any run.
    """
    return shown.evaluate("""async ([text, kind]) => {
        const file = new Blob([alexnet.fromBase64(text)], { type: kind }), started = performance.now();
        await alexnet.classify(file, "an image");
        const whole = performance.now() - started, { probabilities, milliseconds } = alexnet.walk.result;
        const runs = [milliseconds];
        while (runs.at(-1) >= 50 && runs.length < 10) {
            runs.push((await network.run(alexnet.walk.square)).milliseconds);
        }
        return [probabilities, whole, runs];
    }""", [base64.b64encode(data).decode(), kind])


def answer(shown, data, kind="image/png"):
    """The probabilities that the page computes for an image file."""
    return shown.evaluate("""async ([text, kind]) => {
        await alexnet.classify(new Blob([alexnet.fromBase64(text)], { type: kind }), "an image");
        return alexnet.walk.result.probabilities;
    }""", [base64.b64encode(data).decode(), kind])


def compare(shown, files, kind):
    model = alexnet.load()
    wholes, networks, firsts = [], [], []
    for data in files:
        probabilities, whole, runs = timed_answer(shown, data, kind)
        got = np.array(probabilities)
        expected = {guess.name: guess.probability for guess in model.predict(data, top=200)[0]}
        expected_K = np.array([expected[name] for name in model.classes])
        assert np.abs(got - expected_K).max() <= 1e-3
        assert model.classes[got.argmax()] == shown.inner_text("#top-class")
        top, second = np.sort(expected_K)[::-1][:2]
        assert got.argmax() == expected_K.argmax() or top - second < 1e-3
        wholes.append(whole)
        networks.append(min(runs))
        firsts.append(runs[0])
    print(f"{len(files)} images, median of the first runs: {np.median(firsts):.1f} ms for the network (fastest: "
          f"{min(firsts):.1f}), {np.median(wholes):.1f} ms from the file until all layers are drawn "
          f"({min(wholes):.1f})")
    assert len(files) == 50
    assert np.median(networks) < 50
    assert np.median(wholes) < 400


# --- The same answers as predict --------------------------------------------------------------------------------------


def test_the_one_file_answers_as_predict_on_50_generated_images_from_the_disk(alone):
    compare(alone, [png(smooth_image(seed)) for seed in range(50)], "image/png")


def test_the_folder_answers_as_predict_on_50_crops_of_photographs(opened, address):
    """JPEG files, in a clean clone too: those of ImageNet below are not part of the repository."""
    compare(opened(address), photograph_crops(50), "image/jpeg")


def test_the_folder_answers_as_predict_on_50_photographs_of_imagenet(opened, address, images):
    with tarfile.open(images / "imagenet-samples.tar") as archive:
        names = sorted(name for name in archive.getnames() if name.endswith(".JPEG"))[::5]
        files = [archive.extractfile(name).read() for name in names]
    compare(opened(address), files, "image/jpeg")


@pytest.mark.parametrize(("width", "height", "side"), [
    (64, 64, 64), (65, 64, 64), (500, 375, 64), (375, 500, 64), (333, 500, 64), (30, 41, 64), (640, 227, 224),
    (1000, 999, 28), (7, 5, 32), (89, 335, 64), (30, 100, 64), (26, 194, 64), (60, 1000, 28), (400, 89, 64)])
def test_the_square_equals_the_packages_bit_for_bit(alone, width, height, side):
    pixels_HWC = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    got = alone.evaluate("""async ([text, side]) => {
        const image = await alexnet.decodeImage(new Blob([alexnet.fromBase64(text)], { type: "image/png" }));
        return [...alexnet.squareOf(image.readRows, image.width, image.height, side)];
    }""", [base64.b64encode(png(pixels_HWC)).decode(), side])
    assert np.array_equal(np.array(got).reshape(side, side, 3), square(pixels_HWC, side))


def test_a_rotated_photo_and_a_transparent_one_are_read_as_predict_reads_them(alone):
    model = alexnet.load()
    upright, file = Image.fromarray(smooth_image(3)), io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.save(file, "JPEG", quality=95, exif=exif)
    alpha, seen = np.random.default_rng(1).integers(0, 2, (90, 120, 1), np.uint8) * 255, io.BytesIO()
    colors = np.random.default_rng(2).integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(np.concatenate([colors, alpha], 2)).save(seen, "PNG")
    for data, kind in ((file.getvalue(), "image/jpeg"), (seen.getvalue(), "image/png")):
        expected = model.predict(data)[0][0]
        assert max(answer(alone, data, kind)) == pytest.approx(expected.probability, abs=1e-3)
        assert alone.inner_text("#top-class") == expected.name


# --- The walk ---------------------------------------------------------------------------------------------------------


def check_bars(shown, guesses):
    """The five likeliest classes have a bar each, as long as the probability."""
    bars = shown.locator("#classes li")
    assert bars.locator("span:first-child").all_inner_texts() == [guess.name for guess in guesses]
    shares = bars.evaluate_all("(bars) => bars.map((bar) => getComputedStyle(bar).getPropertyValue('--share'))")
    for share, guess in zip(shares, guesses, strict=True):
        assert share.endswith("%")
        assert float(share[:-1]) / 100 == pytest.approx(guess.probability, abs=1e-3)


def check_kernel(shown, weight_KCHW):
    """conv1's filter of the chosen map is drawn as colors around gray, which are its weights."""
    assert shown.inner_text("#kernel-caption") == "Its filter, 7×7 in three colors: gray is 0"
    painted = np.array(shown.evaluate("""() => {
        const canvas = document.querySelector("#kernel"), { width, height } = canvas;
        const numbers = canvas.getContext("2d").getImageData(0, 0, width, height).data;
        return [...Array(49).keys()].map((place) => {
            const column = Math.floor((place % 7 + 0.5) * width / 7);
            const row = Math.floor((Math.floor(place / 7) + 0.5) * height / 7);
            return [...numbers.subarray(4 * (row * width + column)).subarray(0, 3)];
        });
    }"""))
    filter_CHW = weight_KCHW[shown.evaluate("alexnet.walk.map")]
    expected = 127.5 + 127.5 * filter_CHW.permute(1, 2, 0).reshape(49, 3).numpy() / filter_CHW.abs().max().item()
    assert np.abs(painted - expected).max() <= 2
    assert painted.max() - painted.min() > 50


def test_every_layer_has_the_networks_output_and_the_arithmetic_of_explain(alone):
    data, model, shown = png(smooth_image(8)), alexnet.load(), alone
    answer(shown, data)
    check_bars(shown, model.predict(data, top=5)[0])
    explanation = {layer.name: layer for layer in explain(model.network.arch).layers}
    assert shown.locator("#strip .name").all_inner_texts() == ["image", *model.network.layer_names()]
    for name in model.network.layer_names():
        shown.locator(f"#strip [data-layer={name}]").click()
        assert shown.inner_text("#layer-title") == name
        worked = explanation[name].worked.replace(" x ", " × ").replace("*", "·").replace(" - ", " − ")
        assert worked in shown.locator("#layer-sum").text_content()
        got = shown.evaluate("(name) => [...alexnet.outputOf(alexnet.layerIndex()).values]", name)
        expected = model.features(data, name).flatten().numpy()
        assert np.abs(np.array(got) - expected).max() <= 2e-3 * np.abs(expected).max()
        if name == "conv1":
            check_kernel(shown, model.network.named_layer(name).weight.detach())
            assert shown.inner_text("#maps-caption").endswith(
                "All 64 maps have this scale; larger numbers have the color of its end. Choose one. The first 32 are "
                "group 1's.")
    assert shown.locator("#working").inner_text().startswith(model.predict(data)[0][0].name)


def test_a_convolutions_unit_is_the_sum_that_the_page_works_out(alone):
    answer(alone, png(smooth_image(8)))
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5"):
        alone.locator(f"#strip [data-layer={name}]").click()
        for unit in ([0, 0, 0], [63, 13, 7], [40, 5, 13]):
            worked, actual = alone.evaluate("([map, row, column]) => alexnet.workedUnit(map, row, column)", unit)
            assert worked == pytest.approx(actual, abs=2e-4)


@pytest.mark.parametrize(("layer", "place", "pixels"), [
    ("conv1", 0, [0, 3]), ("conv1", 10, [17, 23]), ("conv2", 5, [5, 15]), ("pool2", 0, [0, 9]), ("conv3", 7, [19, 41])])
def test_what_a_unit_sees(alone, layer, place, pixels):
    """conv1: 7x7, stride 2, padding 3, so unit i begins at 2 i - 3. conv2: 3x3, padding 1: 4 more pixels, from 2 i - 5.
    pool2: 3x3, stride 2: 15 pixels from 4 i - 5. conv3: 3x3, padding 1: 23 pixels from 4 i - 9."""
    assert alone.evaluate("([name, place]) => alexnet.seenPixels(name, place)", [layer, place]) == pixels


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["code2012", "caffe", "torchvision", "cifar"])
def test_every_network_of_the_paper_can_be_walked_through(opened, engine, preset, tmp_path):
    """Convolutions that round up, towers, both kinds of response normalization, mean images, blue first."""
    saved = narrow(preset, "output_init_std=0.3")
    page.write_browser_page(tmp_path / "page.html", saved, network_file.make_network_file(saved), engine)
    shown, data = opened((tmp_path / "page.html").as_uri()), png(smooth_image(11))
    model = alexnet.Model(saved.network(), saved.preprocess(), saved.classes)
    got, expected = answer(shown, data), {guess.name: guess.probability for guess in model.predict(data, top=7)[0]}
    assert got == pytest.approx([expected[name] for name in saved.classes], abs=1e-3)
    for name in model.network.layer_names():
        shown.locator(f"#strip [data-layer={name}]").click()
        if name == "conv1":  # Caffe's network is on one GPU, with groups (bvlc_alexnet, group: 2)
            caption = shown.inner_text("#maps-caption")
            assert caption.endswith({"code2012": "The first 8 are tower 1's, which the paper had on a GPU of its own.",
                                     "caffe": "The first 8 are group 1's."}.get(preset, "Choose one."))
        actual = np.array(shown.evaluate("(name) => [...alexnet.outputOf(alexnet.layerIndex()).values]", name))
        correct = model.features(data, name).flatten().numpy()
        assert np.abs(actual - correct).max() <= 4e-3 * np.abs(correct).max()
        if name.startswith("conv"):
            last = round(np.sqrt(len(actual) / 16)) - 1
            for unit in ([0, 0, 0], [15, last, last], [9, last // 2, 0]):
                worked, value = shown.evaluate("([map, row, column]) => alexnet.workedUnit(map, row, column)", unit)
                assert worked == pytest.approx(value, rel=1e-3, abs=1e-3 * float(np.abs(correct).max()))


# --- In use -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "scheme"), [(360, "light"), (1200, "dark")])
def test_the_page_fits_the_window_in_every_kind_of_layer(opened, folder, width, scheme):
    shown = opened((folder / "page.html").as_uri(), width=width, color_scheme=scheme)
    for name in ("image", "conv1", "pool2", "conv5", "average_pool", "fc6", "fc7"):
        shown.locator(f"#strip [data-layer={name}]").click()
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        for canvas in shown.locator("#layer canvas:visible").all():
            box = canvas.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width


def test_it_is_used_without_a_mouse(alone):
    shown = alone
    shown.locator("#file").focus()
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.closest('#samples') !== null")
    shown.locator("#strip [data-layer=image]").focus()
    shown.keyboard.press("ArrowRight")
    assert shown.inner_text("#layer-title") == "conv1"
    shown.locator("#map").focus()
    before = shown.evaluate("[alexnet.walk.row, alexnet.walk.column]")
    shown.keyboard.press("ArrowLeft" if before[1] else "ArrowRight")
    assert shown.evaluate("alexnet.walk.column") == before[1] + (-1 if before[1] else 1)
    shown.locator("#maps").focus()
    number = shown.evaluate("alexnet.walk.map")
    shown.keyboard.press("ArrowLeft" if number else "ArrowRight")
    assert shown.evaluate("alexnet.walk.map") == number + (-1 if number else 1)
    assert "of 64 is chosen" in shown.get_attribute("#maps", "aria-label")


def test_a_file_that_is_no_image_is_refused_in_a_sentence(alone):
    alone.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"})
    alone.locator("#error").wait_for()
    assert alone.inner_text("#error") == "notes.png cannot be read as an image by this browser."


def test_a_photo_that_is_dropped_anywhere_is_classified(alone, tmp_path):
    """The drag of a file, as the browser gets it from the desktop: not an event that a script makes."""
    (tmp_path / "dropped.png").write_bytes(png(smooth_image(5)))
    session, (x, y) = alone.context.new_cdp_session(alone), (300, 400)
    drag = {"x": x, "y": y, "data": {"items": [], "files": [str(tmp_path / "dropped.png")], "dragOperationsMask": 1}}
    for kind in ("dragEnter", "dragOver"):
        session.send("Input.dispatchDragEvent", {"type": kind, **drag})
    assert alone.evaluate("document.querySelector('#drop').classList.contains('over')")
    before = alone.evaluate("alexnet.walk.result.probabilities")
    session.send("Input.dispatchDragEvent", {"type": "drop", **drag})
    alone.wait_for_function("(before) => String(alexnet.walk.result.probabilities) != String(before)", arg=before)
    assert not alone.evaluate("document.querySelector('#drop').classList.contains('over')")
    guess = alexnet.load().predict(tmp_path / "dropped.png")[0][0]
    assert alone.inner_text("#top-class") == guess.name
    assert max(alone.evaluate("alexnet.walk.result.probabilities")) == pytest.approx(guess.probability, abs=1e-3)


def test_a_folder_opened_from_the_disk_says_how_to_open_it(browser, folder):
    context = browser.new_context()
    shown = context.new_page()
    shown.goto(f"file://{folder}/site/index.html")
    shown.locator("#error").wait_for()
    assert "python -m http.server" in shown.inner_text("#error")
    context.close()


def test_the_license_note_and_the_engines_license_are_in_the_page(opened, address, folder):
    shown = opened(address)
    assert "for research and education, not commercial" in shown.inner_text("footer")
    assert "Copyright (c) Microsoft Corporation" in (folder / "site" / "LICENSES.txt").read_text()
    assert "for research and education" in (folder / "site" / "LICENSES.txt").read_text()
    assert {path.name for path in (folder / "site").iterdir()} == {
        "index.html", "model.onnx", "LICENSES.txt", "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs",
        "ort-wasm-simd-threaded.wasm"}


def test_the_pages_policy_allows_no_other_host(folder):
    one_file, site = (path.read_text() for path in (folder / "page.html", folder / "site" / "index.html"))
    assert "default-src 'none'" in one_file[:2000]
    assert "connect-src" not in one_file[:2000]
    assert "connect-src 'self';" in site[:2000]
