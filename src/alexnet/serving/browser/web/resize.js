// --- resize.js: the stored square of an image, as data/images.py computes it, bit for bit -----------------------------

const WEIGHT_BITS = 22;  // as in Pillow: weights are integers that sum to 2^22

/** Python's round(): a half goes to the even neighbor. */
function roundHalfEven(number) {
  const below = Math.floor(number), rest = number - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 !== 0) ? below + 1 : below;
}

/** The sizes that lead from an image to its square: rescaled rows and columns, and the square's corner in them. */
function squareSizes(width, height, side) {
  const shorter = Math.min(width, height);
  const rows = Math.floor(side * height / shorter), columns = Math.floor(side * width / shorter);
  return { rows, columns, top: roundHalfEven((rows - side) / 2), left: roundHalfEven((columns - side) / 2) };
}

/** Which input pixels each output pixel reads, and with which weights: a triangle filter, as wide as an output pixel or
 *  an input pixel, whichever is wider (antialiasing). `first` and `count` say which output pixels are wanted. */
function makeAxis(before, after, first, count) {
  const scale = before / after, support = Math.max(scale, 1), pixels = [];
  for (let i = 0; i < count; i++) {
    const center = (first + i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(before, Math.trunc(center + support + 0.5));
    const shares = [];
    for (let at = begin; at < end; at++) shares.push(Math.max(0, 1 - Math.abs((at - center + 0.5) / support)));
    const sum = shares.reduce((all, share) => all + share, 0);
    pixels.push({ begin, weights: shares.map((share) => Math.trunc(0.5 + share / sum * 2 ** WEIGHT_BITS)) });
  }
  return pixels;
}

/** The square of an image: uint8 RGB, side x side x 3.
 *  `readRows(top, count)` gives rows of the image as RGBA, so that a large image is never held twice. */
function squareOf(readRows, width, height, side) {
  const { rows, columns, top, left } = squareSizes(width, height, side);
  const across = makeAxis(width, columns, left, side), down = makeAxis(height, rows, top, side);
  const firstRow = down[0].begin, last = down[side - 1], lastRow = last.begin + last.weights.length;
  const narrow = new Uint8Array((lastRow - firstRow) * side * 3), half = 2 ** (WEIGHT_BITS - 1);
  const strip = Math.max(1, Math.floor(1e6 / width));  // rows that are read at a time
  for (let from = firstRow; from < lastRow; from += strip) {
    const count = Math.min(strip, lastRow - from), rgba = readRows(from, count);
    for (let row = 0; row < count; row++) {
      for (let x = 0; x < side; x++) {
        const { begin, weights } = across[x];
        let red = half, green = half, blue = half, at = (row * width + begin) * 4;
        for (const weight of weights) {
          red += rgba[at] * weight; green += rgba[at + 1] * weight; blue += rgba[at + 2] * weight;
          at += 4;
        }
        const to = ((from - firstRow + row) * side + x) * 3;
        narrow[to] = red >> WEIGHT_BITS; narrow[to + 1] = green >> WEIGHT_BITS; narrow[to + 2] = blue >> WEIGHT_BITS;
      }
    }
  }
  const pixels = new Uint8Array(side * side * 3);
  for (let y = 0; y < side; y++) {
    const { begin, weights } = down[y];
    for (let i = 0; i < side * 3; i++) {
      let sum = half;
      for (let tap = 0; tap < weights.length; tap++) sum += narrow[(begin - firstRow + tap) * side * 3 + i] * weights[tap];
      pixels[y * side * 3 + i] = sum >> WEIGHT_BITS;
    }
  }
  return pixels;
}

/** Decode an image file as the package does: upright by its EXIF orientation, colors unconverted, white behind it. */
async function decodeImage(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", imageOrientation: "from-image" });
  const { width, height } = bitmap, canvas = document.createElement("canvas");
  const readRows = (top, count) => {
    Object.assign(canvas, { width, height: count });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.fillStyle = "white";
    context.fillRect(0, 0, width, count);
    context.drawImage(bitmap, 0, -top);
    return context.getImageData(0, 0, width, count).data;
  };
  return { bitmap, width, height, readRows };
}
