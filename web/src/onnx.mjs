// An exported file's bytes: what it says of itself, and the same file with all of its inputs required.
//
// onnxruntime-web and onnxruntime-node know no input that has a default: the one refuses it, the other passes over it
// without a word. Without the initializers that are the defaults, the same inputs are required, and are taken.
//
// Knows protobuf's wire format and some fields of onnx.proto; no runtime.

const MODEL_GRAPH = 7;
const MODEL_METADATA = 14; // of key and value
const GRAPH_INITIALIZER = 5;
const GRAPH_INPUT = 11;
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

/**
 * @param {Uint8Array} bytes the .onnx file
 * @returns {{metadata: Object<string, string>, config: Object, data: string[], required: Uint8Array}} its metadata,
 *   the model's configuration, the names of its data files, and the file without defaults of inputs
 * @throws {Error} if it is no file that gptloop has exported
 */
export function readModel(bytes) {
  try {
    const fields = [...fieldsOf(bytes)];
    const metadata = Object.fromEntries(fields.filter((field) => field.number === MODEL_METADATA).map(entryOf));
    const config = JSON.parse(metadata.gptloop_config);
    const graph = fields.find((field) => field.number === MODEL_GRAPH);
    const parts = [...fieldsOf(graph.content)];
    const inputs = new Set(parts.filter((part) => part.number === GRAPH_INPUT).map((part) => textOf(part, VALUE_NAME)));
    const tensors = parts.filter((part) => part.number === GRAPH_INITIALIZER);
    const defaults = new Set(tensors.filter((tensor) => inputs.has(textOf(tensor, TENSOR_NAME))));
    const required = joined(parts.filter((part) => !defaults.has(part)).map((part) => part.whole));
    const whole = fields.flatMap((field) => (field === graph ? [header(MODEL_GRAPH, required), required] : [field.whole]));
    return { metadata, config, data: [...new Set(tensors.flatMap(locationsOf))], required: joined(whole) };
  } catch (error) {
    throw new Error(`this is no file that gptloop has exported (${error.message})`);
  }
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

/** Key and length of a field with these bytes. */
function header(number, content) {
  const bytes = [];
  for (let value of [number * 8 + BYTES, content.length]) {
    for (; value >= 128; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
    bytes.push(value);
  }
  return Uint8Array.from(bytes);
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
