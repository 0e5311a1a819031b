"use strict";
// The page of `alexnet serve`: a photograph in, its likeliest classes out, and what they rest on. No request leaves this
// host; every text from outside goes in as text, never as markup.

const at = (id) => document.getElementById(id);
const SECONDS = 60; // until an answer is given up
let token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("token") || "";
let limits = { bytes: Infinity, photographs: 64 };
let photos = []; // what is shown: {name, file, address, truth, classes, error}
let current = null;
let asked = 0; // counts the questions, so that a late answer to an old one is not shown

// --- Asking ----------------------------------------------------------------------------------------------------------

class Refusal extends Error {}

async function ask(path, options = {}) {
  const headers = { ...options.headers };
  if (token) headers.Authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { ...options, headers, signal: AbortSignal.timeout(SECONDS * 1000) });
  } catch (problem) {
    throw new Refusal(problem.name === "TimeoutError"
      ? `The server has not answered for ${SECONDS} seconds. Try again, or look at its log.`
      : "The server cannot be reached. Is it still running?");
  }
  if (answer.ok) return answer;
  if (answer.status === 401) showEntry();
  const said = await answer.json().catch(() => ({}));
  throw new Refusal(sentence(said.error || `the server answered ${answer.status}`));
}

const sentence = (words) => words[0].toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");

async function waiting(words, work) {
  const mine = ++asked, began = performance.now();
  at("problem").hidden = true;
  at("status").textContent = words;
  const clock = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    if (mine === asked && seconds >= 2) at("status").textContent = `${words} ${seconds} s so far.`;
  }, 1000);
  const isStale = () => mine !== asked;
  try {
    await work(isStale);
  } catch (problem) {
    if (!isStale()) fail(problem instanceof Refusal ? problem.message : `The page failed: ${problem.message}`);
  } finally {
    clearInterval(clock);
    if (!isStale()) at("status").textContent = "";
  }
}

function fail(sentence) {
  at("problem").textContent = sentence;
  at("problem").hidden = false;
}

// --- Photographs in --------------------------------------------------------------------------------------------------

function take(files, truth = "") {
  const pictures = [...files];
  if (!pictures.length) return;
  ++asked; // whatever is under way is not wanted any more
  at("status").textContent = "";
  if (pictures.length > limits.photographs) {
    fail(`${pictures.length} pictures are more than the ${limits.photographs} that are taken at once.`);
    return;
  }
  const size = pictures.reduce((sum, file) => sum + file.size, 0);
  if (size > limits.bytes) {
    fail(`${(size / 1e6).toFixed(1)} MB are more than the ${limits.bytes / 1e6} MB that this server takes at once.`);
    return;
  }
  const form = new FormData();
  for (const file of pictures) form.append("photo", file, file.name || "pasted");
  const many = pictures.length > 1 ? `${pictures.length} photographs` : "the photograph";
  waiting(`Asking the network about ${many}.`, async (isStale) => {
    const answer = await (await ask("predict", { method: "POST", body: form })).json();
    if (isStale()) return;
    for (const photo of photos) URL.revokeObjectURL(photo.address);
    photos = answer.photos.map((one, place) => ({
      ...one, file: pictures[place], truth, address: URL.createObjectURL(pictures[place]) }));
    showMany();
    show(photos.find((photo) => photo.classes));
    at("result").hidden = false;
    at("result").focus({ preventScroll: true });
    at("result").scrollIntoView({ block: "nearest", behavior: "smooth" });
    const broken = photos.filter((photo) => photo.error);
    if (broken.length) fail(broken.map((photo) => sentence(photo.error)).join(" "));
    await explain(isStale);
  });
}

async function explain(isStale, label = "") {
  const photo = current;
  const query = label ? `?class=${encodeURIComponent(label)}` : "";
  const form = new FormData();
  form.append("photo", photo.file, photo.name || "pasted");
  const seen = await (await ask(`look${query}`, { method: "POST", body: form })).json();
  if (!isStale() && photo === current) showLook(seen);
}

// --- Answers out -----------------------------------------------------------------------------------------------------

function make(kind, attributes = {}, ...inside) {
  const element = document.createElement(kind);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...inside);
  return element;
}

const percent = (fraction) => `${(100 * fraction).toFixed(1)}%`;

function thumb(address, lines, onClick) {
  const texts = lines.map(([text, kind]) => make("span", kind ? { class: kind } : {}, text));
  const picture = address ? make("img", { src: address, alt: "" }) : make("span", { class: "broken" }, "✕");
  if (!onClick) return make("li", {}, picture, ...texts);
  const button = make("button", { type: "button" }, picture, ...texts);
  button.addEventListener("click", onClick);
  return make("li", {}, button);
}

function showMany() {
  at("many").hidden = photos.length < 2;
  at("many").replaceChildren(...photos.map((photo) => thumb(
    photo.classes && photo.address,
    photo.classes ? [[photo.photo, "quiet"], [`${photo.classes[0].name}, ${percent(photo.classes[0].probability)}`]]
      : [[photo.photo, "quiet"], ["cannot be read"]],
    photo.classes ? () => { show(photo); waiting("Looking closer.", explain); } : null)));
}

function show(photo) {
  current = photo;
  [...at("many").children].forEach((item, place) => item.setAttribute("aria-current", photos[place] === photo));
  at("view").src = photo.address;
  at("view").alt = photo.photo ? `Your photograph, ${photo.photo}` : "Your photograph";
  for (const id of ["cam", "strength", "near", "conv1"]) at(id).hidden = true;
  at("cam-text").textContent = "";
  at("verdict").textContent = photo.classes[0].name;
  at("bars").replaceChildren(...photo.classes.map(({ name, probability }) => {
    const button = make("button", { type: "button", "aria-pressed": "false" },
      make("span", { class: "name" }, name), make("span", { class: "number" }, percent(probability)));
    button.dataset.name = name;
    button.addEventListener("click", () => waiting(`Looking for ${name}.`, (isStale) => explain(isStale, name)));
    const isTrue = photo.truth && name === photo.truth;
    const item = make("li", isTrue ? { class: "is-true" } : {}, button);
    item.style.setProperty("--share", percent(probability));
    return item;
  }));
  at("hint").textContent = (photo.truth ? `Its class is ${photo.truth}. ` : "") + "Choose a class to see what speaks for it.";
}

function showLook(seen) {
  at("view").src = seen.view;
  at("cam").src = seen.grad_cam;
  at("cam").hidden = at("strength").hidden = false;
  at("cam").style.opacity = at("opacity").value / 100;
  at("cam-text").textContent =
    `Red: where the maps of ${seen.layer} speak for ${seen.class} (Grad-CAM), on the square that the network sees.`;
  for (const button of at("bars").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.name === seen.class);
  at("near").hidden = !seen.near.length;
  at("near-list").replaceChildren(...seen.near.map((one) => thumb(
    one.picture, [[one.class, one.class === current.truth ? "is-true" : ""], [one.distance.toFixed(1), "quiet"]])));
  const { maps, towers, columns, picture, layer } = seen.conv1;
  const halves = towers > 1 ? `; the first ${maps / towers} are tower 1's` : "";
  at("conv1-text").textContent =
    `The ${maps} maps of ${layer}, ${columns} in a row${halves}. White: a kernel of the first layer finds what it looks for.`;
  at("conv1-maps").src = picture;
  at("conv1-maps").alt = `${maps} small maps of where each kernel of the first layer responds`;
  at("conv1").hidden = false;
}

// --- The page's own things -------------------------------------------------------------------------------------------

function showEntry() {
  at("entry").hidden = false;
  at("token").focus();
}

async function begin() {
  const model = await (await ask("model")).json();
  at("entry").hidden = true;
  limits = model.limits;
  const error = model.metrics.top1_error;
  at("about").textContent = `The network ${model.name}: ${model.classes.length} classes, `
    + `${model.parameters.toLocaleString("en")} parameters`
    + (error == null ? "." : `, wrong about ${percent(error)} of its validation photographs.`);
  const pictures = await Promise.all(model.samples.map(async (sample) => {
    const data = await (await ask(sample.picture.slice(1))).blob();
    return { ...sample, file: new File([data], sample.name.split("/").pop(), { type: "image/png" }) };
  }));
  at("samples").replaceChildren(...pictures.map((sample) => thumb(
    URL.createObjectURL(sample.file), [[sample.class || sample.name]], () => take([sample.file], sample.class))));
  for (const [place, picture] of [...at("samples").querySelectorAll("img")].entries())
    picture.alt = `Sample picture: ${pictures[place].class || pictures[place].name}`;
  at("offered").hidden = !pictures.length;
}

at("entry").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value.trim();
  sessionStorage.setItem("token", token);
  waiting("Asking with that token.", begin);
});
at("photograph").hidden = !navigator.maxTouchPoints; // where there is a finger, there is a camera
for (const id of ["file", "camera"]) at(id).addEventListener("change", () => {
  take(at(id).files);
  at(id).value = ""; // so that the same file can be chosen again
});
at("opacity").addEventListener("input", () => { at("cam").style.opacity = at("opacity").value / 100; });
let depth = 0;
addEventListener("dragenter", (event) => { event.preventDefault(); depth++; at("drop").classList.add("over"); });
addEventListener("dragleave", () => { if (!--depth) at("drop").classList.remove("over"); });
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  depth = 0;
  at("drop").classList.remove("over");
  if (event.dataTransfer.files.length) take(event.dataTransfer.files);
  else fail("What was dropped is no file; save the picture first, or copy and paste it.");
});
addEventListener("paste", (event) => {
  const files = [...event.clipboardData.files];
  if (files.length) take(files);
  else if (event.target !== at("token")) fail("There is no picture in the clipboard; copy one, not its address.");
});
if (token && location.hash) {
  sessionStorage.setItem("token", token);
  history.replaceState(null, "", location.pathname); // a token does not belong into a bookmark
}
waiting("", begin);
