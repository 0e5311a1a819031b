"use strict";
// The page of `alexnet serve`: images in, the most probable classes and their explanation out. All requests go to this
// server. Text from outside is inserted as text, never as HTML.

const element = (id) => document.getElementById(id);
const TIMEOUT_SECONDS = 60;
let token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("token") || "";
let limits = { body_bytes: Infinity, images: 64 };
let crop = 0, zoom = 1; // pixels of the network's input, and the ratio of the image's square to it
let classCount = 0; // of the network
let sureFrom = 0.5; // probability of the likeliest class, below which the network is not sure
let prefix = ""; // of the paths of the chosen model, where the server has several
let images = []; // the images of the result: {name, file, url, trueClass, classes, sure, error}
let current = null; // the one that is shown
let latestTask = 0; // number of the latest task; the results of earlier ones are discarded

// --- Requests --------------------------------------------------------------------------------------------------------

class RequestError extends Error {
  constructor(message, status = 0, detail = null) {
    super(message);
    this.status = status;
    this.detail = detail; // {problem, remedy} of the server's response
  }
}

async function request(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(TIMEOUT_SECONDS * 1000) });
  } catch (error) {
    throw new RequestError(error.name === "TimeoutError"
      ? `The server has not responded for ${TIMEOUT_SECONDS} seconds. Try again, or see its log.`
      : "The server cannot be reached. Check that it is running.");
  }
  if (response.ok) return response;
  if (response.status === 401) {
    showTokenForm();
    throw new RequestError(token ? "The token is wrong." : "", 401);
  }
  const { error } = await response.json().catch(() => ({}));
  throw new RequestError(error ? errorText(error) : `The server responded with status ${response.status}.`,
    response.status, error);
}

// An error of the server as two sentences. A file name at the beginning keeps its case.
const errorText = ({ problem, remedy }) => [problem, remedy].filter(Boolean).map(sentence).join(" ");
const sentence = (text) => text.replace(/^[a-z]+(?=[ ,])/, (word) => word[0].toUpperCase() + word.slice(1))
  + (/[.!?]$/.test(text) ? "" : ".");

// Run a task and show its status, with the elapsed seconds, and its error.
async function runTask(text, work) {
  const number = ++latestTask, began = performance.now();
  element("error").hidden = true;
  element("status").textContent = text;
  const timer = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    if (number === latestTask && seconds >= 2) element("status").textContent = `${text} ${seconds} s.`;
  }, 1000);
  const isStale = () => number !== latestTask;
  const setStatus = (newText) => { element("status").textContent = text = newText; };
  try {
    await work(isStale, setStatus);
  } catch (error) {
    if (!isStale()) showError(error instanceof RequestError ? error.message : `Error in the page: ${error.message}`);
  } finally {
    clearInterval(timer);
    if (!isStale()) element("status").textContent = "";
  }
}

function showError(text) {
  element("error").textContent = text;
  element("error").hidden = !text;
}

// --- Classification --------------------------------------------------------------------------------------------------

function classify(files, trueClass = "") {
  const chosen = [...files];
  if (!chosen.length) return;
  for (const image of images) URL.revokeObjectURL(image.url);
  const found = images = chosen.map((file) => ({
    name: file.name || "", file, trueClass, url: URL.createObjectURL(file) }));
  element("result").hidden = element("skip").hidden = true; // so that no old result stands below a new error
  const text = chosen.length > 1 ? `Classifying ${chosen.length} images` : "Classifying the image";
  runTask(`${text}.`, async (isStale, setStatus) => {
    for (const batch of batches(found)) {
      const done = found.indexOf(batch[0]);
      if (done) setStatus(`${text}: ${done} done.`);
      await predict(batch);
      if (isStale()) return;
    }
    const failed = images.filter((image) => image.error);
    if (failed.length) showError(failed.map((image) => errorText(image.error)).join(" "));
    if (failed.length === images.length) return;
    showBatch();
    showPrediction(images.find((image) => image.classes));
    element("result").hidden = element("skip").hidden = false;
    element("result").focus({ preventScroll: true });
    element("result").scrollIntoView({ block: innerWidth < 600 ? "start" : "nearest", behavior: "smooth" });
    await explain(isStale);
  });
}

// Requests as large as the server accepts. An image that is too large by itself is not sent.
function batches(found) {
  const made = [];
  let size = Infinity;
  for (const image of found) {
    const bytes = image.file.size + 1000; // with the headers of its part of the form
    if (image.file.size > limits.body_bytes) {
      image.error = {
        problem: `${image.name || "the image"} has ${(image.file.size / 1e6).toFixed(1)} MB, more than the `
          + `${limits.body_bytes / 1e6} MB that this server accepts`,
        remedy: "send a smaller copy" };
    } else if (made.length && made.at(-1).length < limits.images && size + bytes <= limits.body_bytes) {
      made.at(-1).push(image);
      size += bytes;
    } else {
      made.push([image]);
      size = bytes;
    }
  }
  return made;
}

async function predict(batch) {
  const form = new FormData();
  for (const { file } of batch) form.append("image", file, file.name || "pasted");
  try {
    const { images: predictions } = await (await request(`${prefix}predict`, { method: "POST", body: form })).json();
    batch.forEach((image, index) => Object.assign(image, {
      classes: predictions[index].classes, sure: predictions[index].sure, error: predictions[index].error }));
  } catch (error) {
    if (error.status !== 422) throw error; // 422: none of them can be decoded; the error names the first
    batch.forEach((image, index) => {
      image.error = index ? { problem: `${image.name} cannot be decoded` } : error.detail;
    });
  }
}

async function explain(isStale, label = "") {
  const image = current;
  const query = label ? `?class=${encodeURIComponent(label)}` : "";
  const form = new FormData();
  form.append("image", image.file, image.name || "pasted");
  const explanation = await (await request(`${prefix}explain${query}`, { method: "POST", body: form })).json();
  if (!isStale() && image === current) showExplanation(explanation);
}

// --- Results ---------------------------------------------------------------------------------------------------------

function make(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

const notSure = (image) => (image.sure === false ? "Not sure: " : "");
/** With one decimal; what only rounds to 0% or 100% is not called that. */
const percent = (fraction) => fraction > 0 && fraction < 0.0005 ? "<0.1%" : fraction >= 0.9995 && fraction < 1 ? ">99.9%"
  : `${(100 * fraction).toFixed(1)}%`;

const likenessText = ({ likeness, distance }) => likeness === "same" ? "the same image"
  : `${distance.toFixed(1)}${likeness === "near_duplicate" ? ", near duplicate" : ""}`;

function thumbnail(url, lines, onClick) {
  const texts = lines.map(([text, className]) => make("span", className ? { class: className } : {}, text));
  const thumb = url ? make("img", { src: url, alt: "" }) : make("span", { class: "broken" }, "✕");
  if (!onClick) return make("li", {}, thumb, ...texts);
  const button = make("button", { type: "button" }, thumb, ...texts);
  button.addEventListener("click", onClick);
  return make("li", {}, button);
}

/** A text as a cell of CSV, with an apostrophe where a spreadsheet would begin a formula (_runtime/csv_cells.py). */
function csvCell(text) {
  const safe = text.replace(/(^|[;\t\r\n])(?=[ "]*[=+\-@＝＋－＠])/g, "$1'").replace(/^[\t\r\n]/, "'$&");
  return /[",;\t\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function showBatch() {
  element("batch").hidden = images.length < 2;
  element("batch-list").replaceChildren(...images.map((image) => {
    if (!image.classes) return thumbnail("", [[image.name, "quiet"], [image.error.problem]]);
    const { name, probability } = image.classes[0];
    return thumbnail(image.url, [[image.name, "quiet"], [`${notSure(image)}${name}, ${percent(probability)}`]], () => {
      showPrediction(image);
      runTask("Computing the explanation.", (isStale) => explain(isStale));
    });
  }));
  const isSure = (sure) => (sure === true ? "yes" : sure === false ? "no" : "");
  const rows = images.flatMap(({ name: fileName, classes = [], sure }) => classes.map(({ name, probability }, index) =>
    [csvCell(fileName), index + 1, csvCell(name), probability.toFixed(6), isSure(sure)].join()));
  URL.revokeObjectURL(element("csv").href);
  element("csv").href = URL.createObjectURL(new Blob([["image,rank,class,probability,sure", ...rows, ""].join("\r\n")],
    { type: "text/csv" }));
}

function showPrediction(image) {
  current = image;
  [...element("batch-list").children].forEach((item, index) =>
    item.setAttribute("aria-current", images[index] === image));
  showPhoto(image.url, 1 / zoom);
  element("view").alt = image.name ? `Your image, ${image.name}` : "Your image";
  for (const id of ["cam", "cam-legend", "input", "neighbors", "conv1"]) element(id).hidden = true;
  element("file-name").textContent = image.name;
  element("cam-text").textContent = "";
  element("top-class").textContent = notSure(image) + image.classes[0].name;
  element("not-sure").hidden = image.sure !== false;
  element("not-sure").textContent = (sureFrom === 0.5
    ? "The likeliest class has a probability below 50%, and is then wrong more often than right. The network knows "
    : `The likeliest class has a probability below ${+(100 * sureFrom).toFixed(2)}%, the threshold of this server. `
      + "The network knows ")
    + `${classCount.toLocaleString("en")} classes, and names one of them for any image.`;
  element("top-probability").textContent = percent(image.classes[0].probability);
  element("classes").replaceChildren(...image.classes.map(({ name, probability }) => {
    const button = make("button", { type: "button", "aria-pressed": "false" },
      make("span", { class: "name" }, name), make("span", { class: "number" }, percent(probability)));
    button.dataset.name = name;
    button.addEventListener("click", () =>
      runTask(`Computing the explanation for ${name}.`, (isStale) => explain(isStale, name)));
    const isTrue = image.trueClass && name === image.trueClass;
    const item = make("li", isTrue ? { class: "is-true" } : {}, button);
    item.style.setProperty("--share", `${100 * probability}%`);
    return item;
  }));
  element("hint").textContent = (image.trueClass ? `Blue: the true class, ${image.trueClass}. ` : "")
    + "Select a class to see its Grad-CAM map. Red edge: the selected class.";
}

/** Show an image in the frame, and in it the square that the network sees: `share` of the shorter side, centered. */
function showPhoto(url, share) {
  const view = element("view");
  view.onload = () => {
    const { naturalWidth: width, naturalHeight: height } = view;
    element("frame").style.setProperty("--aspect", width / height);
    element("frame").style.setProperty("--seen", share * Math.min(width, height) / width);
  };
  view.src = url;
}

function showExplanation(explanation) {
  element("input-image").src = explanation.view;
  element("cam").src = explanation.grad_cam;
  element("cam").hidden = element("cam-legend").hidden = false;
  element("cam").style.opacity = element("opacity").value / 100;
  element("cam-text").textContent =
    `Colored: regions that raise the score of ${explanation.class} (Grad-CAM, layer ${explanation.layer}). The line `
    + "encloses all effects above half of the strongest.";
  element("input-text").textContent = `The network sees the bright square, as ${crop}\u00a0×\u00a0${crop} pixels.`;
  element("input").hidden = false;
  const shown = current;
  element("view").decode().catch(() => { // a format such as TIFF, which browsers cannot show
    if (shown !== current) return;
    showPhoto(explanation.view, 1);
    element("input-text").textContent = "This browser cannot show the file: this is what the network sees, "
      + `${crop}\u00a0×\u00a0${crop} pixels.`;
  });
  for (const button of element("classes").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.name === explanation.class);
  element("neighbors").hidden = !explanation.neighbors.length;
  element("neighbor-list").replaceChildren(...explanation.neighbors.map((neighbor) => thumbnail(
    neighbor.url, [[neighbor.class, neighbor.class === current.trueClass ? "is-true" : ""],
      [likenessText(neighbor), "quiet"]])));
  const { maps, towers, part, columns, url, layer } = explanation.conv1;
  const tower = towers > 1 ? `; the first ${maps / towers} belong to ${part} 1` : "";
  element("conv1-text").textContent =
    `The ${maps} feature maps of ${layer}, ${columns} per row${tower}. White: the filter responds strongly.`
    + (innerWidth < 760 ? " Scroll sideways for the rest." : "");
  element("conv1-maps").src = url;
  element("conv1-maps").alt = `${maps} small images, one for each filter of the first layer`;
  element("conv1").hidden = false;
}

// --- Start and input -------------------------------------------------------------------------------------------------

function showTokenForm() {
  element("token-form").hidden = false;
  element("drop").hidden = true;
  element("token").focus();
}

async function start() {
  const model = await (await request(prefix ? prefix.slice(0, -1) : "model")).json();
  element("model-choice").hidden = model.models.length < 2;
  element("model").replaceChildren(...model.models.map((name) => make("option", {}, name)));
  element("model").value = model.model;
  element("curl").textContent = `curl -F image=@cat.jpg ${location.origin}/${prefix}predict`;
  element("token-form").hidden = true;
  element("drop").hidden = false;
  limits = model.limits;
  crop = model.input.crop;
  classCount = model.classes.length;
  sureFrom = model.sure_from ?? 0.5;
  element("known-count").textContent = `The ${classCount.toLocaleString("en")} classes that it knows`;
  element("known-classes").textContent = model.classes.join(", ");
  zoom = model.input.side / crop;
  const {
    top1_error: top1Error, images: total, validation_copies: copies = 0, validation_look_alikes: alike = 0,
  } = model.validation;
  const count = total ? `${total.toLocaleString("en")} ` : "";
  element("about").textContent = `Network ${model.name}, ${model.classes.length} classes`
    + (top1Error == null ? "." : `, top-1 error ${percent(top1Error)} on ${count}validation images`
      + (copies + alike ? `, of which ${(copies + alike).toLocaleString("en")} are copies of training images or look`
        + " like one." : "."));
  const samples = await Promise.all(model.samples.map(async (sample) => {
    const data = await (await request(sample.url.slice(1))).blob();
    return { ...sample, file: new File([data], sample.name.split("/").pop(), { type: "image/png" }) };
  }));
  element("samples").replaceChildren(...samples.map((sample) => thumbnail(URL.createObjectURL(sample.file),
    [[sample.class || sample.name]], () => classify([sample.file], sample.class))));
  for (const [index, thumb] of [...element("samples").querySelectorAll("img")].entries())
    thumb.alt = `Sample image: ${samples[index].class || samples[index].name}`;
  element("sample-section").hidden = !samples.length;
}

element("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = element("token").value.trim();
  sessionStorage.setItem("token", token);
  runTask("Checking the token.", start);
});
element("camera-label").hidden = element("camera").hidden = !navigator.maxTouchPoints; // touch screens have a camera
element("model").addEventListener("change", () => {
  prefix = `v1/models/${element("model").value}/`;
  element("result").hidden = element("skip").hidden = true; // of the other model
  runTask("", start);
});
for (const id of ["file", "camera"]) element(id).addEventListener("change", () => {
  classify(element(id).files);
  element(id).value = ""; // so that the same file can be chosen again
});
element("opacity").addEventListener("input", () => {
  element("cam").style.opacity = element("opacity").value / 100;
});
let dragDepth = 0;
addEventListener("dragenter", (event) => {
  event.preventDefault();
  dragDepth++;
  element("drop").classList.add("over");
});
addEventListener("dragleave", () => { if (!--dragDepth) element("drop").classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  dragDepth = 0;
  element("drop").classList.remove("over");
  if (event.dataTransfer.files.length) classify(event.dataTransfer.files);
  else showError("The dropped item is not a file. Save the image first, or copy and paste it.");
});
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) classify(files);
  else if (event.target !== element("token")) showError("The clipboard has no image. Copy the image, not its address.");
});
if (token && location.hash) {
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname); // keeps the token out of bookmarks
}
runTask("", start);
