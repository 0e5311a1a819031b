// --- drawing.js: tensors as pictures ----------------------------------------------------------------------------------

const colorOf = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const rgbOf = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

/** The theme's colors for numbers from -1 to 1: zero is the card's, positive numbers are blue, negative ones red.
 *  511 colors, RGB. */
function colorScale() {
  const [zero, positive, negative] = ["--card", "--blue", "--red"].map((name) => rgbOf(colorOf(name)));
  const colors = new Uint8Array(511 * 3);
  for (let step = -255; step <= 255; step++) {
    const end = step < 0 ? negative : positive, part = (Math.abs(step) / 255) ** 0.8;
    colors.set(zero.map((from, channel) => Math.round(from + (end[channel] - from) * part)), (step + 255) * 3);
  }
  return colors;
}

/** The size of a layer's numbers, for its colors: 99.8% of them are smaller. */
function rangeOf(values) {
  const step = Math.max(1, Math.floor(values.length / 50000)), sizes = new Float32Array(Math.ceil(values.length / step));
  for (let i = 0; i < sizes.length; i++) sizes[i] = Math.abs(values[i * step]);
  return select(sizes, Math.floor(sizes.length * 0.998)) || 1;
}

/** The number that would be at `place` if the numbers were sorted (quickselect). Sorting those of every layer takes ten
 *  times as long as the network. Changes their order. */
function select(numbers, place) {
  let low = 0, high = numbers.length - 1;
  while (low < high) {
    const pivot = numbers[(low + high) >> 1];
    let left = low, right = high;
    while (left <= right) {
      while (numbers[left] < pivot) left++;
      while (numbers[right] > pivot) right--;
      if (left > right) break;
      [numbers[left], numbers[right]] = [numbers[right], numbers[left]];
      left++;
      right--;
    }
    if (place <= right) high = right;
    else if (place >= left) low = left;
    else break;
  }
  return numbers[place];
}

/** A picture of numbers, one pixel each; `range`: the number with full color. */
function pictureOf(values, rows, columns, range, colors = colorScale()) {
  const image = new ImageData(columns, rows), count = Math.min(values.length, rows * columns);
  for (let i = 0; i < count; i++) {
    const at = (Math.round(255 * Math.max(-1, Math.min(1, values[i] / range))) + 255) * 3;
    image.data[4 * i] = colors[at]; image.data[4 * i + 1] = colors[at + 1]; image.data[4 * i + 2] = colors[at + 2];
    image.data[4 * i + 3] = 255;
  }
  return bitmapCanvas(image);
}

function bitmapCanvas(image) {
  const canvas = Object.assign(document.createElement("canvas"), { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** A picture of RGB numbers [rows, columns, 3], 0 to 255. */
function photoOf(pixels, rows, columns) {
  const image = new ImageData(columns, rows);
  for (let i = 0; i < rows * columns; i++) image.data.set([...pixels.subarray(3 * i, 3 * i + 3), 255], 4 * i);
  return bitmapCanvas(image);
}

/** The network's input as a picture: the center crop of the square. */
function viewOf(square) {
  const margin = Math.floor((data.side - data.crop) / 2), pixels = new Uint8Array(data.crop ** 2 * 3);
  for (let row = 0; row < data.crop; row++) {
    const from = ((row + margin) * data.side + margin) * 3;
    pixels.set(square.subarray(from, from + data.crop * 3), row * data.crop * 3);
  }
  return photoOf(pixels, data.crop, data.crop);
}

/** The kernel of a filter that reads the image, as colors around gray. */
function kernelPhoto(weight, map, kernel) {
  const size = kernel * kernel, from = map * 3 * size, pixels = new Uint8Array(size * 3);
  const own = weight.values.subarray(from, from + 3 * size), range = Math.max(...own.map(Math.abs)) || 1;
  for (let channel = 0; channel < 3; channel++) {
    const color = data.channels === "BGR" ? 2 - channel : channel;
    for (let i = 0; i < size; i++) pixels[3 * i + color] = 127.5 + 127.5 * own[channel * size + i] / range;
  }
  return photoOf(pixels, kernel, kernel);
}

/** Fit a canvas to its box on the screen, and give its context in CSS pixels, without smoothing. */
function prepare(canvas, width, height) {
  const density = window.devicePixelRatio || 1;
  Object.assign(canvas, { width: Math.round(width * density), height: Math.round(height * density) });
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const context = canvas.getContext("2d");
  context.scale(density, density);
  context.imageSmoothingEnabled = false;
  return context;
}

/** Draw a picture over the whole canvas, and a frame around some of its pixels: {top, left, bottom, right}, inclusive. */
function drawFramed(canvas, picture, width, frame, color) {
  const height = width * picture.height / picture.width, context = prepare(canvas, width, height);
  context.drawImage(picture, 0, 0, width, height);
  if (!frame) return;
  const unit = width / picture.width, x = frame.left * unit, y = frame.top * unit;
  const wide = (frame.right - frame.left + 1) * unit, high = (frame.bottom - frame.top + 1) * unit;
  for (const [line, stroke] of [[4, colorOf("--paper")], [2, colorOf(color)]]) {
    context.lineWidth = line;
    context.strokeStyle = stroke;
    context.strokeRect(x, y, wide, high);
  }
}

/** How many columns, and how wide, for `count` square cells in a box. */
function gridOf(count, width, smallest, gap) {
  const columns = Math.min(count, Math.max(1, Math.floor((width + gap) / (smallest + gap))));
  const cell = Math.min(2.4 * smallest, Math.floor((width + gap) / columns) - gap);
  return { columns, cell, rows: Math.ceil(count / columns), pitch: cell + gap };
}

const mapsOf = (tensor) => tensor.shape.length === 4 ? tensor.shape[1] : 1;

/** The side of a vector's picture: its units row by row. */
const sideOf = (count) => Math.ceil(Math.sqrt(count));

/** One map of a layer as a picture; of a vector: all of its units, row by row. */
function mapPicture(tensor, map, range, scale) {
  if (tensor.shape.length === 4) {
    const [, , rows, columns] = tensor.shape, size = rows * columns;
    return pictureOf(tensor.values.subarray(map * size, (map + 1) * size), rows, columns, range, scale);
  }
  const columns = sideOf(tensor.shape[1]);
  return pictureOf(tensor.values, Math.ceil(tensor.shape[1] / columns), columns, range, scale);
}
