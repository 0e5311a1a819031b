// --- network.js: load the network and onnxruntime-web, and run an image through every layer ---------------------------

/** A file of the page: beside it, or inside it, compressed and in base64. */
async function bytesOf(name) {
  const inside = document.getElementById(`file:${name}`);
  if (!inside) {
    const response = await fetch(name);
    if (!response.ok) throw new Error(`${name} is missing beside this page (${response.status})`);
    return new Uint8Array(await response.arrayBuffer());
  }
  const packed = fromBase64(inside.textContent);
  inside.remove();
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function fromBase64(text) {
  const letters = atob(text), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

/** A network that runs in this browser, on one core. */
class Network {
  /** names: of the files `model`, `loader` and `binary`. */
  static async load(names, isOneFile) {
    const [model, binary] = await Promise.all([bytesOf(names.model), bytesOf(names.binary)]);
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = binary.buffer;
    if (isOneFile) {
      const loader = new Blob([await bytesOf(names.loader)], { type: "text/javascript" });
      ort.env.wasm.wasmPaths = { mjs: URL.createObjectURL(loader) };
    }
    const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
    const network = new Network(session);
    const constants = session.outputNames.filter((name) => /\.(weight|bias)$/.test(name));
    network.weights = await network.outputs(new Uint8Array(data.side ** 2 * 3), constants);  // also the warm-up
    return network;
  }

  constructor(session) {
    this.session = session;
    this.layers = session.outputNames.filter((name) => !/\.(weight|bias)$/.test(name));
  }

  async outputs(pixels, names) {
    const input = new ort.Tensor("uint8", pixels, [1, data.side, data.side, 3]);
    const found = await this.session.run({ pixels: input }, names);
    return Object.fromEntries(names.map((name) => [name, { values: found[name].data, shape: found[name].dims }]));
  }

  /** Every layer's output for a stored square, the probabilities of all classes, and how long it took. */
  async run(pixels) {
    const started = performance.now();
    const outputs = await this.outputs(pixels, this.layers);
    return { outputs, probabilities: softmax(outputs.logits.values), milliseconds: performance.now() - started };
  }
}

function softmax(logits) {
  const largest = Math.max(...logits), powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((all, power) => all + power, 0);
  return powers.map((power) => power / sum);
}

/** The indices of the `count` largest numbers, largest first. */
function largest(numbers, count) {
  if (count > 1) return Array.from(numbers.keys()).sort((a, b) => numbers[b] - numbers[a]).slice(0, count);
  let best = 0;
  for (let i = 1; i < numbers.length; i++) if (numbers[i] > numbers[best]) best = i;
  return [best];
}
