// --- arithmetic.js: how one unit of a layer got its value, and what of the image it sees ------------------------------

/** The value at a place of a tensor [1, maps, rows, columns]; 0 in the padding. */
function valueAt(tensor, map, row, column) {
  const [, , rows, columns] = tensor.shape;
  if (row < 0 || column < 0 || row >= rows || column >= columns) return 0;
  return tensor.values[(map * rows + row) * columns + column];
}

/** A convolution's unit: the sum of products over its window, of the maps that its group reads. */
function convolutionUnit(layer, weight, bias, before, map, row, column) {
  const { kernel, stride, padding, dilation, groups } = layer;
  const [filters, inputs] = weight.shape, first = Math.floor(map / (filters / groups)) * inputs;
  let sum = 0, at = map * inputs * kernel * kernel;
  for (let input = 0; input < inputs; input++) {
    for (let y = 0; y < kernel; y++) {
      for (let x = 0; x < kernel; x++) {
        sum += weight.values[at++] * valueAt(before, first + input, row * stride - padding + y * dilation,
                                             column * stride - padding + x * dilation);
      }
    }
  }
  return { products: inputs * kernel * kernel, sum, bias: bias.values[map], value: sum + bias.values[map],
           first, inputs };
}

/** A pooling's unit: the values in its window that exist. */
function poolingWindow(layer, before, map, row, column) {
  const [, , rows, columns] = before.shape, { kernel, stride } = layer, values = [];
  for (let y = row * stride; y < Math.min(row * stride + kernel, rows); y++) {
    for (let x = column * stride; x < Math.min(column * stride + kernel, columns); x++) {
      values.push(valueAt(before, map, y, x));
    }
  }
  return values;
}

/** The first and last pixel, in one direction, of what a unit sees of the network's input, without the padding. A unit
 *  of a vector sees what the last maps see together, which may leave out the last pixels.
 *  `index`: of the layer in data.layers; `place`: the unit's row or column. */
function seenPixels(index, place) {
  const layer = data.layers[index];
  if (layer.output.length === 1) return [0, layer.receptive_field - 1];
  if (layer.kind === "adaptive average pooling") {  // its windows overlap where the sides do not divide
    const before = layer.input[1], after = layer.output[1];
    return [seenPixels(index - 1, Math.floor(place * before / after))[0],
            seenPixels(index - 1, Math.ceil((place + 1) * before / after) - 1)[1]];
  }
  const first = layer.begin + place * layer.jump;
  return [Math.max(0, first), Math.min(data.crop - 1, first + layer.receptive_field_with_padding - 1)];
}
