// --- resize.js: the stored square of an image, as data/square.py computes it, bit for bit -----------------------------

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
 *  an input pixel, whichever is wider (antialiasing). `first` and `count` say which of the `after` output pixels are
 *  wanted. `isCut`: only these are made, from a part of the input, as Pillow does with its `box` of float32 numbers. */
function makeAxis(before, after, first, count, isCut) {
  let scale = before / after, origin = 0;
  if (isCut) {
    origin = Math.fround(first * scale);
    scale = (Math.fround(Math.min((first + count) * scale, before)) - origin) / count;
  }
  const support = Math.max(scale, 1), pixels = [];
  for (let i = 0; i < count; i++) {
    const center = isCut ? origin + (i + 0.5) * scale : (first + i + 0.5) * scale;
    const begin = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(before, Math.trunc(center + support + 0.5));
    const shares = [];
    for (let at = begin; at < end; at++) shares.push(Math.max(0, 1 - Math.abs((at - center + 0.5) / support)));
    const sum = shares.reduce((all, share) => all + share, 0);
    pixels.push({ begin, weights: shares.map((share) => Math.trunc(0.5 + share / sum * 2 ** WEIGHT_BITS)) });
  }
  return pixels;
}

const HALF = 2 ** (WEIGHT_BITS - 1);

/** Rescale the rows [count][width] of pixels with `channels` numbers each to the axis's width: RGB. */
function rescaleAcross(pixels, channels, width, count, across) {
  const narrow = new Uint8Array(count * across.length * 3);
  let to = 0;
  for (let row = 0; row < count; row++) {
    for (const { begin, weights } of across) {
      let red = HALF, green = HALF, blue = HALF, at = (row * width + begin) * channels;
      for (const weight of weights) {
        red += pixels[at] * weight; green += pixels[at + 1] * weight; blue += pixels[at + 2] * weight;
        at += channels;
      }
      narrow[to++] = red >> WEIGHT_BITS; narrow[to++] = green >> WEIGHT_BITS; narrow[to++] = blue >> WEIGHT_BITS;
    }
  }
  return narrow;
}

/** Rescale the height of an image to the axis's: uint8 with as many numbers in a row. It comes in strips:
 *  `strips` yields [first row, rows, their numbers]. */
function rescaleDown(strips, numbers, down) {
  const sums = down.map(() => new Int32Array(numbers).fill(HALF));
  for (const [first, count, pixels] of strips) {
    down.forEach(({ begin, weights }, y) => {
      for (let row = Math.max(begin, first); row < Math.min(begin + weights.length, first + count); row++) {
        const weight = weights[row - begin], from = (row - first) * numbers, sum = sums[y];
        for (let i = 0; i < numbers; i++) sum[i] += pixels[from + i] * weight;
      }
    });
  }
  const short = new Uint8Array(down.length * numbers);
  sums.forEach((sum, y) => sum.forEach((value, i) => { short[y * numbers + i] = value >> WEIGHT_BITS; }));
  return short;
}

/** The square of an image: uint8 RGB, side x side x 3.
 *  `readRows(top, count)` gives rows of the image as RGBA, so that a large image is never held twice. */
function squareOf(readRows, width, height, side) {
  const { rows, columns, top, left } = squareSizes(width, height, side);
  const isCut = Math.max(width, height) > 4 * Math.min(width, height);
  const across = makeAxis(width, columns, left, side, isCut), down = makeAxis(height, rows, top, side, isCut);
  // Pillow rescales the rows before the columns, except of a tall image that becomes smaller.
  const isTall = height > 2 * width && (isCut ? side : rows) < height;

  function* strips() {
    const last = down[side - 1], end = last.begin + last.weights.length, step = Math.max(1, Math.floor(1e6 / width));
    for (let first = down[0].begin; first < end; first += step) {
      const count = Math.min(step, end - first), rgba = readRows(first, count);
      yield [first, count, isTall ? rgba : rescaleAcross(rgba, 4, width, count, across)];
    }
  }

  if (isTall) return rescaleAcross(rescaleDown(strips(), width * 4, down), 4, width, side, across);
  return rescaleDown(strips(), side * 3, down);
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
