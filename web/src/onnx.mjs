// An exported file's bytes: what it says of itself, and the same graph as ONNX Runtime for JavaScript (1.30) can run it
// from memory. It differs in two things.
//
// Inputs with a default are required. onnxruntime-web refuses one that is fed, and onnxruntime-node passes over it
// without a word; without the initializers that are the defaults, both take it.
//
// Weights stand in the main graph alone. A file has those of the steps once more in the Loop's body (`Repeated` of
// gptloop/graph/weights.py says what for), as the same bytes of the data file, and what is handed over in memory is
// found for the main graph's only.
//
// Knows protobuf's wire format and some fields of onnx.proto; no runtime.

const MODEL_GRAPH = 7;
const MODEL_METADATA = 14; // of key and value
const GRAPH_NODE = 1;
const GRAPH_INITIALIZER = 5;
const GRAPH_INPUT = 11;
const NODE_INPUT = 1;
const NODE_ATTRIBUTE = 5;
const ATTRIBUTE_GRAPHS = [6, 11];
const VALUE_NAME = 1;
const TENSOR_NAME = 8;
const TENSOR_EXTERNAL_DATA = 13; // of key and value
const KEY = 1;
const VALUE = 2;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;

const decoder = new TextDecoder();
const encoder = new TextEncoder();

/**
 * @param {Uint8Array} bytes the .onnx file
 * @returns {{metadata: Object<string, string>, config: Object, data: string[], runnable: function(): Uint8Array}} its
 *   metadata, the model's configuration, the names of its data files, and the file that can be run
 * @throws {Error} if it is no file that gptloop has exported
 */
export function readModel(bytes) {
  try {
    const fields = [...fieldsOf(bytes)];
    const metadata = Object.fromEntries(fields.filter((field) => field.number === MODEL_METADATA).map(entryOf));
    const config = JSON.parse(metadata.gptloop_config);
    const graph = fields.find((field) => field.number === MODEL_GRAPH);
    const tensors = initializersOf(graph);
    const runnable = () => joined(fields.map((field) => (field === graph ? mainGraph(graph, tensors) : field.whole)));
    return { metadata, config, data: [...new Set(tensors.flatMap(locationsOf))], runnable };
  } catch (error) {
    throw new Error(`this is no file that gptloop has exported (${error.message})`);
  }
}

function mainGraph(graph, tensors) {
  const parts = [...fieldsOf(graph.content)];
  const inputs = new Set(parts.filter((part) => part.number === GRAPH_INPUT).map((part) => textOf(part, VALUE_NAME)));
  const stored = tensors.filter((tensor) => locationsOf(tensor).length);
  const known = new Map(stored.map((tensor) => [contentOf(tensor), textOf(tensor, TENSOR_NAME)]));
  const kept = parts.flatMap((part) => {
    if (part.number === GRAPH_NODE) return withoutRepeated(part, known, new Map());
    const isDefault = part.number === GRAPH_INITIALIZER && inputs.has(textOf(part, TENSOR_NAME));
    return isDefault ? [] : part.whole;
  });
  return message(MODEL_GRAPH, kept);
}

/** A node whose subgraphs read the main graph's tensors in place of their own of the same content. */
function withoutRepeated(node, known, renamed) {
  const parts = [...fieldsOf(node.content)].map((part) => {
    if (part.number === NODE_ATTRIBUTE) return attribute(part, known, renamed);
    const name = part.number === NODE_INPUT ? renamed.get(decoder.decode(part.content)) : undefined;
    return name === undefined ? part.whole : message(NODE_INPUT, [encoder.encode(name)]);
  });
  return message(node.number, parts);
}

function attribute(part, known, renamed) {
  const values = [...fieldsOf(part.content)].map((value) =>
    ATTRIBUTE_GRAPHS.includes(value.number) ? subgraph(value, known, renamed) : value.whole,
  );
  return message(part.number, values);
}

function subgraph(graph, known, around) {
  const tensors = initializersOf(graph).map((tensor) => [textOf(tensor, TENSOR_NAME), known.get(contentOf(tensor))]);
  const repeated = new Map(tensors.filter(([, name]) => name !== undefined));
  const renamed = new Map([...around, ...repeated]);
  const kept = [...fieldsOf(graph.content)].flatMap((part) => {
    if (part.number === GRAPH_NODE) return withoutRepeated(part, known, renamed);
    return part.number === GRAPH_INITIALIZER && repeated.has(textOf(part, TENSOR_NAME)) ? [] : part.whole;
  });
  return message(graph.number, kept);
}

function initializersOf(graph) {
  return [...fieldsOf(graph.content)].filter((part) => part.number === GRAPH_INITIALIZER);
}

/** All of a tensor but its name, as text to compare. */
function contentOf(tensor) {
  const others = [...fieldsOf(tensor.content)].filter((part) => part.number !== TENSOR_NAME);
  return String(joined(others.map((part) => part.whole)));
}

function locationsOf(tensor) {
  const entries = [...fieldsOf(tensor.content)].filter((field) => field.number === TENSOR_EXTERNAL_DATA).map(entryOf);
  return entries.filter(([key]) => key === "location").map(([, value]) => value);
}

function entryOf(field) {
  return [textOf(field, KEY), textOf(field, VALUE)];
}

function textOf(field, number) {
  for (const part of fieldsOf(field.content)) {
    if (part.number === number) return decoder.decode(part.content);
  }
  return "";
}

/** The fields of a message, each with its bytes; `content` is what a field of a length holds. */
function* fieldsOf(bytes) {
  const at = { offset: 0 };
  while (at.offset < bytes.length) {
    const start = at.offset;
    const key = varint(bytes, at);
    const [number, kind] = [Math.floor(key / 8), key % 8];
    let content;
    if (kind === VARINT) varint(bytes, at);
    else if (kind === FIXED64) at.offset += 8;
    else if (kind === FIXED32) at.offset += 4;
    else if (kind === BYTES) {
      const length = varint(bytes, at);
      content = bytes.subarray(at.offset, at.offset + length);
      at.offset += length;
    } else throw new Error(`a field of kind ${kind}`);
    if (at.offset > bytes.length) throw new Error("it is cut off");
    yield { number, content, whole: bytes.subarray(start, at.offset) };
  }
}

// By products, as shifts of numbers in JavaScript end at 32 bits. What is longer than a number counts nothing here.
function varint(bytes, at) {
  let value = 0;
  for (let scale = 1; ; scale *= 128) {
    if (at.offset >= bytes.length) throw new Error("it is cut off");
    const byte = bytes[at.offset++];
    value += (byte & 127) * scale;
    if (byte < 128) return value;
  }
}

/** A field with these parts, in bytes. */
function message(number, parts) {
  const content = joined(parts);
  const header = [];
  for (let value of [number * 8 + BYTES, content.length]) {
    for (; value >= 128; value = Math.floor(value / 128)) header.push((value % 128) + 128);
    header.push(value);
  }
  return joined([Uint8Array.from(header), content]);
}

function joined(parts) {
  const whole = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    whole.set(part, offset);
    offset += part.length;
  }
  return whole;
}
