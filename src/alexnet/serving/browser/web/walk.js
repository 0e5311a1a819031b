// --- walk.js: the image through every layer: the strip of layers, the maps of one, and one unit of a map --------------

const walk = { layer: "image", map: 0, row: 0, column: 0, result: null, square: null, range: 1 };

const SAYS = {
  image: "The image as the network gets it: rescaled, cut to a square, and cut again to its center.",
  convolution: "Each filter slides over the maps before it. A feature map is one filter's answer at every place: blue "
    + "where the filter finds what it looks for, red where it finds the opposite.",
  relu: "Negative numbers become 0. What is left says where a filter has found something (§3.1: with ReLUs a network "
    + "learns several times faster than with tanh).",
  tanh: "Each number becomes its hyperbolic tangent, between −1 and 1. Numbers far from 0 come close to these two (§3.1: "
    + "with ReLUs a network learns several times faster).",
  sigmoid: "Each number x becomes 1 / (1 + e to the power of −x), between 0 and 1. Numbers far from 0 come close to these "
    + "two.",
  "max pooling": "The largest number of each window remains: a smaller map, in which a find may move by a pixel.",
  "average pooling": "The average of each window remains: a smaller map.",
  "adaptive average pooling": "Averages of windows that cover the whole map, whatever its size.",
  "batch normalization": "Each map is shifted and scaled by numbers of its own, so that all maps have a similar range. The "
    + "paper, three years older than batch normalization, has local response normalization here.",
  "local response normalization": "A unit is made smaller where its neighbors, the same place in the maps beside it, are "
    + "large: filters compete (§3.3).",
  output: "Each unit is a class, and its number a logit. The softmax turns all logits into probabilities: e to the power "
    + "of each, divided by their sum.",
  "fully connected": "Each unit reads all numbers before it. Places are gone; what counts is what was found.",
  dropout: "Nothing changes here. In training, dropout sets a part of the numbers to 0 (§4.2).",
};

const explanationOf = (kind) => SAYS[kind] || (kind.startsWith("normalization within a map")
  ? "A unit is made smaller where its own map is large around it." : "");

const layerIndex = () => data.layers.findIndex((layer) => layer.name === walk.layer);
const shownShape = (shape) => shape.map(commas).join("×");

/** A layer's output. A dropout layer's output is what it reads: of maps, all numbers in one row. */
function outputOf(index) {
  if (index < 0) return walk.result.outputs.view;
  const layer = data.layers[index], tensor = walk.result.outputs[layer.name] || outputOf(index - 1);
  return layer.output.length === 1 && tensor.shape.length === 4
    ? { values: tensor.values, shape: [1, tensor.values.length] } : tensor;
}

// --- The strip of all layers ------------------------------------------------------------------------------------------

function buildStrip() {
  const names = ["image", ...data.layers.map((layer) => layer.name)];
  $("strip").replaceChildren(...names.map((name, place) => {
    const layer = data.layers[place - 1], button = make("button", "", { type: "button" });
    button.dataset.layer = name;
    button.append(make("canvas", "", { className: "thumb" }), make("span", name, { className: "name" }),
                  make("span", layer ? shownShape(layer.output) : shownShape([3, data.crop, data.crop]),
                       { className: "shape" }));
    button.addEventListener("click", () => chooseLayer(name));
    const item = make("li", "");
    item.append(button);
    return item;
  }));
  $("strip").addEventListener("keydown", (event) => {
    const buttons = [...$("strip").querySelectorAll("button")], at = buttons.indexOf(document.activeElement);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (at < 0 || !buttons[to]) return;
    event.preventDefault();
    buttons[to].focus();
    chooseLayer(buttons[to].dataset.layer);
  });
}

/** Draw each layer's thumbnail: the four maps with the most contrast, or all units of a vector. */
function drawStrip() {
  const scale = colorScale();
  for (const button of $("strip").querySelectorAll("button")) {
    const name = button.dataset.layer, side = 72, context = prepare(button.querySelector("canvas"), side, side);
    if (name === "image") { context.drawImage(viewOf(walk.square), 0, 0, side, side); continue; }
    const tensor = outputOf(data.layers.findIndex((layer) => layer.name === name)), range = rangeOf(tensor.values);
    if (tensor.shape.length !== 4) { context.drawImage(mapPicture(tensor, 0, range, scale), 0, 0, side, side); continue; }
    for (const [place, map] of mostContrast(tensor, 4).entries()) {
      context.drawImage(mapPicture(tensor, map, range, scale), (place % 2) * (side / 2 + 1),
                        Math.floor(place / 2) * (side / 2 + 1), side / 2 - 1, side / 2 - 1);
    }
  }
}

/** The maps whose numbers differ most from place to place. */
function mostContrast(tensor, count) {
  const size = tensor.shape[2] * tensor.shape[3];
  const variances = Array.from({ length: tensor.shape[1] }, (_, map) => {
    let sum = 0, squares = 0;
    for (let i = map * size; i < (map + 1) * size; i++) sum += tensor.values[i];
    for (let i = map * size; i < (map + 1) * size; i++) squares += (tensor.values[i] - sum / size) ** 2;
    return squares;
  });
  return largest(variances, count);
}

// --- One layer --------------------------------------------------------------------------------------------------------

function chooseLayer(name) {
  walk.layer = name;
  const tensor = outputOf(layerIndex());
  if (name !== "image" && tensor.shape.length === 4) {
    walk.map = walk.map < mapsOf(tensor) && sameMaps(tensor) ? walk.map : largestMap(tensor);
    walk.maps = mapsOf(tensor);
    chooseStrongestUnit(tensor);
  } else Object.assign(walk, { map: 0, maps: 0, row: 0, column: 0 });
  if (tensor.shape.length === 2) chooseVectorUnit(largest(tensor.values, 1)[0], tensor);
  showLayer();
  reveal($("strip").querySelector(`[data-layer="${name}"]`));
}

/** The map with the largest number: the filter that has found most. */
const largestMap = (tensor) => Math.floor(largest(tensor.values, 1)[0] / (tensor.shape[2] * tensor.shape[3]));

/** Whether the layer chosen before had as many maps, so that the same number means the same filter. */
const sameMaps = (tensor) => walk.maps === mapsOf(tensor);

function chooseStrongestUnit(tensor) {
  const [, , rows, columns] = tensor.shape, from = walk.map * rows * columns;
  const best = largest(tensor.values.subarray(from, from + rows * columns), 1)[0];
  Object.assign(walk, { row: Math.floor(best / columns), column: best % columns });
}

function chooseVectorUnit(unit, tensor) {
  const columns = sideOf(tensor.shape[1]);
  Object.assign(walk, { row: Math.floor(unit / columns), column: unit % columns });
}

function showLayer() {
  for (const button of $("strip").querySelectorAll("button")) {
    button.setAttribute("aria-pressed", String(button.dataset.layer === walk.layer));
  }
  const layer = data.layers[layerIndex()], isImage = !layer;
  $("layer-title").textContent = walk.layer;
  $("layer-kind").textContent = isImage ? "the network's input"
    : `${layer.kind}, ${shownShape(layer.input)} → ${shownShape(layer.output)}`;
  $("layer-says").textContent = explanationOf(isImage ? "image" : layer === data.layers.at(-1) ? "output"
    : layer.kind === "activation" ? data.activation : layer.kind);
  showSum(layer);
  showFacts(layer);
  $("maps-part").hidden = isImage || layer.output.length === 1;
  $("unit-part").hidden = isImage;
  $("image-part").hidden = !isImage;
  if (isImage) { showInput(); return; }
  walk.range = rangeOf(outputOf(layerIndex()).values);
  if (!$("maps-part").hidden) drawMaps();
  showUnit();
}

/** Scroll the strip, and nothing else, so that a button is in it. */
function reveal(button) {
  const strip = $("strip"), place = button.parentNode.offsetLeft;
  if (place < strip.scrollLeft || place + button.offsetWidth > strip.scrollLeft + strip.clientWidth) {
    strip.scrollTo({ left: place - strip.clientWidth / 2 + button.offsetWidth / 2, behavior: "smooth" });
  }
}

/** The arithmetic of the layer's size: why 55.25 is 55. */
function showSum(layer) {
  const [formula, worked] = layer ? [layer.formula, layer.worked] : squareSum();
  $("layer-sum").hidden = !worked;
  $("layer-sum").replaceChildren(make("small", times(formula)), times(worked));
}

/** How the image became the square. */
function squareSum() {
  const { width, height } = walk.image, { rows, columns, top, left } = squareSizes(width, height, data.side);
  const [long, shorter] = [Math.max(width, height), Math.min(width, height)], exact = data.side * long / shorter;
  const text = `${data.side} x ${long} / ${shorter} = ${general(exact)}`
    + (Number.isInteger(exact) ? "" : `, floor ${Math.floor(exact)}`);
  return [`the shorter side becomes ${data.side} pixels, and the longer side`, `${text}: ${width} x ${height} becomes `
    + `${columns} x ${rows}, of which ${data.side} x ${data.side} from column ${left} and row ${top}`];
}

function showFacts(layer) {
  const facts = [];
  if (!layer) {
    const color = data.mean.map((number) => number.toFixed(1)).join(", ");
    facts.push(["crop", `the central ${data.crop}×${data.crop} of ${data.side}×${data.side} pixels`],
               ["mean", data.mean_is_image ? `a mean image is subtracted, whose average color is ${color}`
                                           : `${color} is subtracted from red, green and blue`]);
    const [red, green, blue] = data.scale;
    if (red !== green || green !== blue) {
      facts.push(["scale", `red, green and blue are divided by ${data.scale.join(", ")}`]);
    } else if (red !== 1) facts.push(["scale", `divided by ${red}`]);
    if (data.channels === "BGR") facts.push(["channels", "blue first"]);
  } else {
    if (layer.parameters) facts.push(["parameters", times(layer.parameters_worked)]);
    if (layer.multiply_adds) {
      facts.push(["multiply-adds", `${commas(layer.neurons)} units × ${commas(layer.multiply_adds / layer.neurons)} = `
        + commas(layer.multiply_adds)]);
    }
    if (layer.output.length === 3) {
      const field = layer.receptive_field_with_padding;
      facts.push(["receptive field", layer.receptive_field_worked
        ? `${times(layer.receptive_field_worked)}: a unit sees ${field}×${field} pixels of the input`
        : `a unit sees ${field}×${field} pixels of the input`]);
    }
  }
  $("layer-facts").replaceChildren(...facts.flatMap(([term, text]) => [make("dt", term), make("dd", text)]));
  const notes = layer ? [...layer.notes] : [];
  if (layer === data.layers.at(-1) && data.temperature !== 1) {
    notes.push(`the logits are divided by ${general(data.temperature)} before the softmax: the temperature that makes `
      + "probabilities match how often the network is right");
  }
  $("layer-notes").replaceChildren(...notes.map((note) => make("li", typeset(`${note[0].toUpperCase()}${note.slice(1)}.`))));
}

function showInput() {
  const width = Math.min(320, $("image-part").clientWidth);
  const margin = Math.floor((data.side - data.crop) / 2), last = margin + data.crop - 1;
  drawFramed($("square"), photoOf(walk.square, data.side, data.side), width,
             { top: margin, left: margin, bottom: last, right: last }, "--blue");
  drawFramed($("view"), viewOf(walk.square), width);
  $("square-caption").textContent = `The square of ${data.side}×${data.side} pixels, and its center`;
  $("view-caption").textContent = `The center of ${data.crop}×${data.crop} pixels: all that the network sees`;
}

// --- The maps of one layer --------------------------------------------------------------------------------------------

const MAP_CELL = 40, MAP_GAP = 4;

function mapGrid() {
  const count = mapsOf(outputOf(layerIndex()));
  return { count, ...gridOf(count, $("maps-part").clientWidth, count > 200 ? 28 : MAP_CELL, MAP_GAP) };
}

function drawMaps() {
  const tensor = outputOf(layerIndex()), grid = mapGrid(), scale = colorScale();
  const context = prepare($("maps"), grid.columns * grid.pitch, grid.rows * grid.pitch);
  for (let map = 0; map < grid.count; map++) {
    const x = (map % grid.columns) * grid.pitch + MAP_GAP / 2, y = Math.floor(map / grid.columns) * grid.pitch + MAP_GAP / 2;
    context.drawImage(mapPicture(tensor, map, walk.range, scale), x, y, grid.cell, grid.cell);
    if (map === walk.map) {
      context.lineWidth = 3;
      context.strokeStyle = colorOf("--ink");
      context.strokeRect(x - 0.5, y - 0.5, grid.cell + 1, grid.cell + 1);
    }
  }
  const towers = data.towers > 1 && grid.count % data.towers === 0
    ? ` The first ${grid.count / data.towers} are ${data.has_gpu_towers
      ? "tower 1's, which the paper had on a GPU of its own" : "group 1's"}.` : "";
  const isPositive = !tensor.values.some((value) => value < 0);
  $("maps-caption").replaceChildren(
    isPositive ? "0" : rounded(-walk.range), make("span", "", { className: isPositive ? "scale is-positive" : "scale" }),
    rounded(walk.range),
    `\u2002All ${commas(grid.count)} maps have this scale; larger numbers have the color of its end. Choose one.${towers}`);
  $("maps").setAttribute("aria-label", `Feature maps of ${walk.layer}. Map ${walk.map + 1} of ${grid.count} is chosen. `
    + "Arrow keys choose another one.");
}

function chooseMap(map) {
  const tensor = outputOf(layerIndex());
  if (map < 0 || map >= mapsOf(tensor) || map === walk.map) return;
  walk.map = map;
  chooseStrongestUnit(tensor);
  drawMaps();
  showUnit();
}

function connectMaps() {
  $("maps").addEventListener("click", (event) => {
    const { columns, pitch } = mapGrid();
    chooseMap(Math.floor(event.offsetY / pitch) * columns + Math.min(columns - 1, Math.floor(event.offsetX / pitch)));
  });
  $("maps").addEventListener("keydown", (event) => {
    const { columns } = mapGrid();
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
    if (!step) return;
    event.preventDefault();
    chooseMap(walk.map + step);
  });
}

// --- One unit of a map ------------------------------------------------------------------------------------------------

/** Width of the three figures of a unit: side by side, or two on a narrow screen. */
function figureWidth() {
  const room = $("unit-part").clientWidth, width = Math.min(300, Math.floor(room < 560 ? (room - 12) / 2 : (room - 48) / 3));
  $("unit-part").style.setProperty("--figure", `${width}px`);
  return width;
}

function showUnit() {
  const index = layerIndex(), layer = data.layers[index], tensor = outputOf(index), isVector = layer.output.length === 1;
  const width = figureWidth(), { row, column, map } = walk;
  const [top, bottom] = seenPixels(index, row), [left, right] = seenPixels(index, column);
  drawFramed($("field"), viewOf(walk.square), width, { top, left, bottom, right }, "--ink");
  drawFramed($("map"), mapPicture(tensor, map, walk.range), width, { top: row, left: column, bottom: row, right: column },
             "--ink");
  $("field-caption").textContent = isVector && bottom === data.crop - 1 ? "Each unit sees the whole input"
    : isVector ? `Each unit sees ${bottom + 1}×${right + 1} of the ${data.crop}×${data.crop} pixels`
    : `What the unit sees: ${bottom - top + 1}×${right - left + 1} pixels`;
  const unit = row * sideOf(tensor.shape[1]) + column;
  $("map-caption").textContent = isVector ? `All ${commas(tensor.shape[1])} units, row by row; unit ${unit + 1}`
    : `Map ${map + 1}, and its unit in row ${row + 1}, column ${column + 1}`;
  $("map").setAttribute("aria-label", `${$("map-caption").textContent}. Arrow keys choose another unit.`);
  $("working").replaceChildren(...working(index, tensor));
  showKernel(layer);
  showLogits(layer, tensor);
}

/** How the unit got its value, in words and numbers. */
function working(index, tensor) {
  const layer = data.layers[index], before = outputOf(index - 1), { map, row, column } = walk;
  if (layer.output.length === 1) return vectorWorking(layer, before, tensor);
  const value = valueAt(tensor, map, row, column), bold = make("strong", rounded(value));
  if (layer.kind === "convolution") {
    const unit = convolutionUnit(layer, network.weights[`${layer.name}.weight`], network.weights[`${layer.name}.bias`],
                                 before, map, row, column);
    const read = index === 0 ? "3 colors" : `${unit.inputs} maps`;
    return [`${read} × ${layer.kernel}×${layer.kernel} = ${commas(unit.products)} products, whose sum is `
            + `${rounded(unit.sum)}; with the bias ${rounded(unit.bias)} it is `, bold];
  }
  if (["max pooling", "average pooling"].includes(layer.kind)) {
    const values = poolingWindow(layer, before, map, row, column).map(rounded).join(", ");
    return [`The ${layer.kind === "max pooling" ? "largest" : "average"} of ${values} is `, bold];
  }
  if (layer.kind === "adaptive average pooling") return ["The average of its window is ", bold];
  return becomes(layer, valueAt(before, map, row, column), bold);
}

const becomes = (layer, before, bold) => layer.kind === "activation" && data.activation === "relu"
  ? [`max(0, ${rounded(before)}) = `, bold] : [`${rounded(before)} becomes `, bold];

function vectorWorking(layer, before, tensor) {
  const unit = walk.row * sideOf(tensor.shape[1]) + walk.column, value = tensor.values[unit];
  if (value === undefined) return ["There is no unit here."];
  const bold = make("strong", rounded(value));
  if (layer.kind !== "fully connected") return becomes(layer, before.values[unit], bold);
  const inputs = layer.input.reduce((all, one) => all * one, 1), isLast = layer === data.layers.at(-1);
  if (!isLast) return [`${commas(inputs)} products and a bias: `, bold];
  return [`${data.classes[unit]}: ${commas(inputs)} products and a bias give the logit `, bold,
          `. The softmax gives this class ${percent(walk.result.probabilities[unit])}.`];
}

/** The filter of the chosen map, for a convolution: in color if it reads the image, else one slice for each map. */
function showKernel(layer) {
  const isConvolution = layer.kind === "convolution";
  $("kernel-figure").hidden = !isConvolution;
  if (!isConvolution) return;
  const weight = network.weights[`${layer.name}.weight`], [, inputs, kernel] = weight.shape, size = kernel * kernel;
  const width = figureWidth();
  if (layer === data.layers[0]) {
    drawFramed($("kernel"), kernelPhoto(weight, walk.map, kernel), width);
    $("kernel-caption").textContent = `Its filter, ${kernel}×${kernel} in three colors: gray is 0`;
    return;
  }
  const columns = sideOf(inputs), rows = Math.ceil(inputs / columns), pitch = width / columns;
  const context = prepare($("kernel"), width, rows * pitch), scale = colorScale();
  const own = weight.values.subarray(walk.map * inputs * size, (walk.map + 1) * inputs * size), range = rangeOf(own);
  for (let input = 0; input < inputs; input++) {
    const slice = pictureOf(own.subarray(input * size, (input + 1) * size), kernel, kernel, range, scale);
    context.drawImage(slice, (input % columns) * pitch, Math.floor(input / columns) * pitch, pitch - 1, pitch - 1);
  }
  $("kernel-caption").textContent = `Its filter: ${kernel}×${kernel} weights for each of ${inputs} maps`;
}

/** The output layer's largest logits, and the probabilities that the softmax makes of them. A logit's bar is its distance
 *  from the smallest logit: the softmax depends on differences alone, and logits may be negative. */
function showLogits(layer, tensor) {
  $("logits-figure").hidden = layer !== data.layers.at(-1);
  if (layer !== data.layers.at(-1)) return;
  const best = largest(tensor.values, Math.min(8, data.classes.length)), top = tensor.values[best[0]];
  const lowest = tensor.values.reduce((least, logit) => Math.min(least, logit));
  $("logits").replaceChildren(...best.map((unit) => {
    const row = make("tr");
    row.append(make("td", data.classes[unit]), make("td", tensor.values[unit].toFixed(2), { className: "number" }),
               make("td", percent(walk.result.probabilities[unit]), { className: "number" }));
    row.style.setProperty("--share", `${(100 * (tensor.values[unit] - lowest) / (top - lowest || 1)).toFixed(1)}%`);
    return row;
  }));
}

function connectUnit() {
  const canvas = $("map");
  const choose = (row, column) => {
    const tensor = outputOf(layerIndex()), side = sideOf(tensor.shape[1]);
    const [rows, columns] = tensor.shape.length === 4 ? tensor.shape.slice(2) : [Math.ceil(tensor.shape[1] / side), side];
    if (row < 0 || column < 0 || row >= rows || column >= columns) return;
    if (tensor.shape.length === 2 && row * side + column >= tensor.shape[1]) return;
    Object.assign(walk, { row, column });
    showUnit();
  };
  const place = (event) => {
    const tensor = outputOf(layerIndex());
    const columns = tensor.shape.length === 4 ? tensor.shape[3] : sideOf(tensor.shape[1]);
    const unit = canvas.clientWidth / columns;
    choose(Math.floor(event.offsetY / unit), Math.floor(event.offsetX / unit));
  };
  canvas.addEventListener("click", place);
  canvas.addEventListener("pointermove", (event) => { if (event.pointerType === "mouse") place(event); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] }[event.key];
    if (!step) return;
    event.preventDefault();
    choose(walk.row + step[0], walk.column + step[1]);
  });
}
