// --- page.js: choose an image, classify it, show the likeliest classes and the walk -----------------------------------

let network = null;

const $ = (id) => document.getElementById(id);
const commas = (number) => number.toLocaleString("en-US");
/** In percent, as `probability_text` of inference/predictor.py: what only rounds to 0% or 100% is not called that. */
const percent = (share) => share > 0 && share < 0.0005 ? "<0.1%" : share >= 0.9995 && share < 1 ? ">99.9%"
  : `${(100 * share).toFixed(share < 0.1 || share >= 0.99 ? 1 : 0)}%`;
const rounded = (number) => (Math.abs(number) < 1e-4 ? "0" : String(Number(number.toPrecision(3)))).replace("-", "−");
const general = (number) => String(Number(number.toPrecision(6)));
const times = (text) => text.replaceAll(" x ", " × ").replaceAll("*", "·").replaceAll(" - ", " − ");
/** The signs of a sentence, in which x may be a name. */
const typeset = (text) => text.replace(/(?<=\d)x(?=\d)/g, "×").replace(" x the sum", " × the sum").replaceAll("a^2", "a²");

function make(tag, text = "", properties = {}) {
  const node = Object.assign(document.createElement(tag), properties);
  node.textContent = text;
  return node;
}

function say(text) { $("status").textContent = text; }

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

/** Classify an image file, and show it on its way through the network. */
async function classify(blob, name) {
  complain("");
  const image = await decodeImage(blob).catch(() => null);
  if (!image) { complain(`${name} cannot be read as an image by this browser.`); return; }
  const square = squareOf(image.readRows, image.width, image.height, data.side);
  const result = await network.run(square);
  Object.assign(walk, { image, square, result });
  showResult(image, name, result);
  drawStrip();
  chooseLayer(walk.layer);
}

function showResult(image, name, result) {
  const best = largest(result.probabilities, Math.min(5, data.classes.length)), first = best[0];
  const sure = data.sure_from === null || result.probabilities[first] >= data.sure_from;
  $("result").hidden = $("walk").hidden = false;
  drawPhoto(image);
  $("file-name").textContent = name;
  $("top-class").textContent = data.classes[first];
  $("top-probability").textContent = percent(result.probabilities[first]);
  $("not-sure").hidden = sure;
  $("classes").replaceChildren(...best.map((place) => {
    const item = make("li"), share = result.probabilities[place];
    item.style.setProperty("--share", `${(100 * share).toFixed(2)}%`);
    item.append(make("span", data.classes[place]), make("span", percent(share), { className: "number" }));
    item.dataset.probability = share;
    return item;
  }));
  say(`Classified in ${result.milliseconds.toFixed(0)} ms, on one core of this device.`);
}

/** The image as it is, with the square that is cut from it and the part that the network sees. */
function drawPhoto({ bitmap, width, height }) {
  const scale = Math.min($("photo-figure").clientWidth / width, 520 / height);
  const context = prepare($("photo"), width * scale, height * scale);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.fillStyle = "white";
  context.fillRect(0, 0, width * scale, height * scale);
  context.drawImage(bitmap, 0, 0, width * scale, height * scale);
  const seen = Math.min(width, height) * data.crop / data.side * scale;
  const left = (width * scale - seen) / 2, top = (height * scale - seen) / 2;
  context.fillStyle = "rgb(0 0 0 / 45%)";
  context.beginPath();
  context.rect(0, 0, width * scale, height * scale);
  context.rect(left, top, seen, seen);
  context.fill("evenodd");
  context.strokeStyle = "white";
  context.lineWidth = 2;
  context.strokeRect(left + 1, top + 1, seen - 2, seen - 2);
}

// --- Where images come from -------------------------------------------------------------------------------------------

function take(files) {
  const images = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (images.length) return enqueue(() => classify(images[0], images[0].name));
  if (files.length) complain(`${files[0].name} is no image.`);
  return undefined;
}

/** Run tasks one after the other, so that no late answer replaces a newer one; show an error as a sentence. */
function enqueue(task) {
  queue = queue.then(() => network && task()).catch((error) => complain(`Something went wrong: ${error.message}`));
  return queue;
}

function connectInputs() {
  $("file").addEventListener("change", () => { take($("file").files); $("file").value = ""; });
  document.addEventListener("paste", (event) => { if (event.clipboardData.files.length) take(event.clipboardData.files); });
  document.addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    take(event.dataTransfer.files);
  });
  $("samples").replaceChildren(...data.samples.map((sample) => {
    const button = make("button", "", { type: "button" }), item = make("li");
    button.append(Object.assign(new Image(), { src: sample.image, alt: sample.title }));
    button.addEventListener("click", () => enqueue(() => showSample(sample)));
    item.append(button);
    return item;
  }));
}

/** A sample's file from its data: address, which the page's policy does not let it fetch. */
function showSample(sample) {
  return classify(new Blob([fromBase64(sample.image.split(",")[1])], { type: "image/jpeg" }), sample.title);
}

// --- Start ------------------------------------------------------------------------------------------------------------

/** What the page says of the network itself. */
function showAbout() {
  $("about").textContent = `Network: ${data.name}, ${data.classes.length} classes, ${commas(data.parameters)} parameters, `
    + `${commas(data.multiply_adds)} multiply-adds for an image. ${data.measured} It answers with one of its classes for any image. `
    + `Made by alexnet ${data.version}.`;
  $("known-count").textContent = `The ${commas(data.classes.length)} classes that it knows`;
  $("known-classes").textContent = data.classes.join(", ");
  const credits = data.samples.map((sample) => sample.credit).filter(Boolean);
  $("credits").textContent = credits.length ? `Sample photos: ${credits.join("; ")}.` : "";
}

async function start() {
  showAbout();
  connectInputs();
  buildStrip();
  connectMaps();
  connectUnit();
  say("Loading the network …");
  network = await Network.load(data.files, data.is_one_file);
  say("");
}

let queue = start().catch((error) => {
  say("");
  complain(location.protocol === "file:" && !data.is_one_file
    ? "A browser lets no page from a disk read the files beside it. In this folder, run python -m http.server and open "
      + "http://localhost:8000, or make one file with alexnet export --to web page.html."
    : `The network cannot be loaded: ${error.message}`);
});
enqueue(() => showSample(data.samples[0]));
let redraw = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(redraw);
  redraw = requestAnimationFrame(() => { if (walk.result) { drawPhoto(walk.image); showLayer(); } });
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  if (walk.result) { drawStrip(); showLayer(); }
});
// For the tests of this page, and for the console of the browser.
window.alexnet = {
  squareOf, decodeImage, fromBase64, outputOf, layerIndex, walk, classify,
  seenPixels: (name, place) => seenPixels(data.layers.findIndex((layer) => layer.name === name), place),
  /** A unit of the chosen convolution, worked out and as the network computed it. */
  workedUnit(map, row, column) {
    const index = layerIndex(), { name } = data.layers[index];
    const unit = convolutionUnit(data.layers[index], network.weights[`${name}.weight`], network.weights[`${name}.bias`],
                                 outputOf(index - 1), map, row, column);
    return [unit.value, valueAt(outputOf(index), map, row, column)];
  },
};
