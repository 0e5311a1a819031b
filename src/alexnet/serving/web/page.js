"use strict";
// The page of `alexnet serve`: an image in, its likeliest classes out, and what they rest on. No request leaves this
// host; every text from outside goes in as text, never as markup.

const at = (id) => document.getElementById(id);
const SECONDS = 60; // until an answer is given up
let token = new URLSearchParams(location.hash.slice(1)).get("token") || sessionStorage.getItem("token") || "";
let limits = { bytes: Infinity, images: 64 };
let crop = 0, zoom = 1; // pixels that the network sees, and how much smaller they are than the square of an image
let photos = []; // what is shown: {photo, file, address, truth, classes, error}
let current = null;
let asked = 0; // counts the questions, so that a late answer to an old one is not shown

// --- Asking ----------------------------------------------------------------------------------------------------------

class Refusal extends Error {
  constructor(words, status = 0) {
    super(words);
    this.status = status;
  }
}

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
  if (answer.status === 401) {
    showEntry();
    throw new Refusal(token ? "That is not the server's token." : "", 401);
  }
  const said = await answer.json().catch(() => ({}));
  throw new Refusal(sentence(said.error || `the server answered ${answer.status}`), answer.status);
}

// A name of a file stays as it is.
const sentence = (words) => words.replace(/^[a-z]+(?=[ ,])/, (word) => word[0].toUpperCase() + word.slice(1))
  + (/[.!?]$/.test(words) ? "" : ".");

async function waiting(words, work) {
  const mine = ++asked, began = performance.now();
  at("problem").hidden = true;
  at("status").textContent = words;
  const clock = setInterval(() => {
    const seconds = Math.round((performance.now() - began) / 1000);
    if (mine === asked && seconds >= 2) at("status").textContent = `${words} ${seconds} s so far.`;
  }, 1000);
  const isStale = () => mine !== asked;
  const say = (more) => { at("status").textContent = words = more; }; // which the clock then goes on with
  try {
    await work(isStale, say);
  } catch (problem) {
    if (!isStale()) fail(problem instanceof Refusal ? problem.message : `The page failed: ${problem.message}`);
  } finally {
    clearInterval(clock);
    if (!isStale()) at("status").textContent = "";
  }
}

function fail(sentence) {
  at("problem").textContent = sentence;
  at("problem").hidden = !sentence;
}

// --- Images in --------------------------------------------------------------------------------------------------

function take(files, truth = "") {
  const pictures = [...files];
  if (!pictures.length) return;
  for (const photo of photos) URL.revokeObjectURL(photo.address);
  const found = photos = pictures.map((file) => ({
    photo: file.name || "", file, truth, address: URL.createObjectURL(file) }));
  at("result").hidden = at("skip").hidden = true; // an old answer under a new problem would be taken for its answer
  const many = pictures.length > 1 ? `${pictures.length} images` : "the image";
  waiting(`Asking the network about ${many}.`, async (isStale, say) => {
    for (const some of batches(found)) {
      const done = found.indexOf(some[0]);
      if (done) say(`Asking the network about ${many}: ${done} done.`);
      await name(some);
      if (isStale()) return;
    }
    const broken = photos.filter((photo) => photo.error);
    if (broken.length) fail(broken.map((photo) => sentence(photo.error)).join(" "));
    if (broken.length === photos.length) return;
    showMany();
    show(photos.find((photo) => photo.classes));
    at("result").hidden = at("skip").hidden = false;
    at("result").focus({ preventScroll: true });
    at("result").scrollIntoView({ block: innerWidth < 600 ? "start" : "nearest", behavior: "smooth" });
    await explain(isStale);
  });
}

// As many to a request as the server takes; one that is too large by itself stays here, and is told so.
function batches(found) {
  const made = [];
  let size = Infinity;
  for (const photo of found) {
    const bytes = photo.file.size + 1000; // with what a form puts around it
    if (photo.file.size > limits.bytes) {
      photo.error = `${photo.photo || "the picture"} has ${(photo.file.size / 1e6).toFixed(1)} MB, more than the `
        + `${limits.bytes / 1e6} MB that this server takes; send a smaller copy`;
    } else if (made.length && made.at(-1).length < limits.images && size + bytes <= limits.bytes) {
      made.at(-1).push(photo);
      size += bytes;
    } else {
      made.push([photo]);
      size = bytes;
    }
  }
  return made;
}

async function name(some) {
  const form = new FormData();
  for (const { file } of some) form.append("photo", file, file.name || "pasted");
  try {
    const { photos: named } = await (await ask("predict", { method: "POST", body: form })).json();
    some.forEach((photo, place) => Object.assign(photo, named[place]));
  } catch (problem) {
    if (problem.status !== 422) throw problem;
    some.forEach((photo, place) => { photo.error = place ? `${photo.photo} cannot be decoded` : problem.message; });
  }
}

async function explain(isStale, label = "") {
  const photo = current;
  const query = label ? `?class=${encodeURIComponent(label)}` : "";
  const form = new FormData();
  form.append("photo", photo.file, photo.photo || "pasted");
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
  at("several").hidden = photos.length < 2;
  at("many").replaceChildren(...photos.map((photo) => thumb(
    photo.classes && photo.address,
    photo.classes ? [[photo.photo, "quiet"], [`${photo.classes[0].name}, ${percent(photo.classes[0].probability)}`]]
      : [[photo.photo, "quiet"], ["cannot be read"]],
    photo.classes ? () => { show(photo); waiting("Looking closer.", (isStale) => explain(isStale)); } : null)));
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const rows = photos.flatMap(({ photo, classes = [] }) => classes.map(({ name, probability }, place) =>
    [quoted(photo), place + 1, quoted(name), probability.toFixed(6)].join()));
  URL.revokeObjectURL(at("csv").href);
  at("csv").href = URL.createObjectURL(new Blob([["photo,rank,class,probability", ...rows, ""].join("\r\n")],
    { type: "text/csv" }));
}

function show(photo) {
  current = photo;
  [...at("many").children].forEach((item, place) => item.setAttribute("aria-current", photos[place] === photo));
  at("view").style.setProperty("--zoom", zoom);
  at("view").src = photo.address;
  at("view").alt = photo.photo ? `Your image, ${photo.photo}` : "Your image";
  for (const id of ["cam", "strength", "gets", "near", "conv1"]) at(id).hidden = true;
  at("whose").textContent = photo.photo;
  at("cam-text").textContent = "";
  at("verdict").textContent = photo.classes[0].name;
  at("sure").textContent = percent(photo.classes[0].probability);
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
  at("hint").textContent = (photo.truth ? `Blue: its true class, ${photo.truth}. ` : "")
    + "Choose a class to see what speaks for it; the red edge marks whose map is shown.";
}

function showLook(seen) {
  at("small").src = seen.view;
  at("cam").src = seen.grad_cam;
  at("cam").hidden = at("strength").hidden = false;
  at("cam").style.opacity = at("opacity").value / 100;
  at("cam-text").textContent = `Red: what speaks for ${seen.class}, by the maps of ${seen.layer} (Grad-CAM).`;
  at("small-text").textContent = `What the network gets of it: ${crop} × ${crop} pixels of its central square.`;
  at("gets").hidden = false;
  const shown = current;
  at("view").decode().catch(() => { // such as TIFF, which a browser cannot show
    if (shown !== current) return;
    at("view").style.setProperty("--zoom", 1);
    at("view").src = seen.view;
  });
  for (const button of at("bars").querySelectorAll("button"))
    button.setAttribute("aria-pressed", button.dataset.name === seen.class);
  at("near").hidden = !seen.near.length;
  at("near-list").replaceChildren(...seen.near.map((one) => thumb(
    one.picture, [[one.class, one.class === current.truth ? "is-true" : ""], [one.distance.toFixed(1), "quiet"]])));
  const { maps, towers, columns, picture, layer } = seen.conv1;
  const halves = towers > 1 ? `; the first ${maps / towers} are tower 1's` : "";
  at("conv1-text").textContent =
    `The ${maps} maps of ${layer}, ${columns} in a row${halves}. White: a kernel of the first layer finds what it looks for.`
    + (innerWidth < 760 ? " Push them sideways for the rest." : "");
  at("conv1-maps").src = picture;
  at("conv1-maps").alt = `${maps} small maps of where each kernel of the first layer responds`;
  at("conv1").hidden = false;
}

// --- The page's own things -------------------------------------------------------------------------------------------

function showEntry() {
  at("entry").hidden = false;
  at("drop").hidden = true;
  at("token").focus();
}

async function begin() {
  const model = await (await ask("model")).json();
  at("entry").hidden = true;
  at("drop").hidden = false;
  limits = model.limits;
  crop = model.input.crop;
  zoom = model.input.side / crop;
  const { top1_error: error, photographs: images } = model.metrics;
  const counted = images ? ` ${images.toLocaleString("en")}` : "";
  at("about").textContent = `The network ${model.name} knows ${model.classes.length} classes`
    + (error == null ? "." : `, and took ${percent(error)} of its${counted} validation images for another.`);
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
at("image").hidden = at("camera").hidden = !navigator.maxTouchPoints; // where there is a finger, there is a camera
at("curl").textContent = `curl -F photo=@cat.jpg ${location.origin}/predict`;
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
