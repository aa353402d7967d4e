// The page's other half, beside the thread that draws: loads the model, generates, and makes text of tokens.
//
// Takes {prompt, settings} to generate and {stop} to end that; posts {progress}, {ready}, {prompt}, {block}, {done} and
// {error}, one a message.

import * as ort from "./lib/ort.wasm.min.mjs";
import { Tokenizer } from "./lib/tokenizers.min.mjs";
import { Model } from "./model.mjs";

const MODEL = "model/model.onnx";
const BLOCK = 8; // new tokens of a row at once

let model;
let tokenizer;
let stopped = false;

self.onmessage = ({ data }) => {
  if (data.stop) stopped = true;
  else generate(data.prompt, data.settings).catch(report);
};
load().catch(report);

function report(error) {
  self.postMessage({ error: error.message });
}

async function load() {
  ort.env.wasm.numThreads = threads();
  const read = (name) => fetched(`model/${encodeURIComponent(name)}`);
  model = await Model.open(ort, await fetched(MODEL), read, { executionProviders: ["wasm"] });
  const { gptloop_tokenizer: name, gptloop_source: source, gptloop_precision: precision } = model.metadata;
  if (name) tokenizer = new Tokenizer(JSON.parse(new TextDecoder().decode(await read(name))), {});
  const { n_positions, vocab_size } = model.config;
  const ends = model.known("eos_token_id").length > 0;
  const about = { source, precision, n_positions, vocab_size, text: Boolean(name), ends };
  self.postMessage({ ready: { ...about, threads: ort.env.wasm.numThreads } });
}

/** As many as the address asks for (?threads=2), or half of the processors; one where the browser shares no memory. */
function threads() {
  if (!self.crossOriginIsolated) return 1;
  const asked = Number(new URLSearchParams(self.location.search).get("threads"));
  return asked >= 1 ? Math.floor(asked) : Math.min(8, Math.ceil(navigator.hardwareConcurrency / 2));
}

async function fetched(address) {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} cannot be had: ${response.status} ${response.statusText}`);
  const length = response.headers.has("content-encoding") ? 0 : Number(response.headers.get("content-length"));
  if (!length) return new Uint8Array(await response.arrayBuffer());
  const bytes = new Uint8Array(length);
  let loaded = 0;
  for await (const part of chunks(response.body)) {
    bytes.set(part, loaded);
    loaded += part.length;
    self.postMessage({ progress: { name: decodeURIComponent(address), loaded, total: bytes.length } });
  }
  if (loaded !== bytes.length) throw new Error(`${address} ends after ${loaded} of ${bytes.length} bytes`);
  return bytes;
}

async function* chunks(body) {
  const reader = body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    yield value;
  }
}

async function generate(prompt, { endOfText, ...settings }) {
  stopped = false;
  const ids = tokenizer ? encoded(prompt) : idsOf(prompt);
  const ends = endOfText ? model.known("eos_token_id") : [];
  self.postMessage({ prompt: ids.length });
  const rows = [];
  for await (const found of model.stream([ids], { block: BLOCK, eos_token_id: ends, ...settings })) {
    found.tokens.forEach((tokens, row) => {
      rows[row] ??= { ids: [], pieces: [], logprobs: [], raw_logprobs: [], ended: false };
      append(rows[row], tokens, found.logprobs[row], found.raw_logprobs[row], ends);
    });
    self.postMessage({ block: rows.map((row) => shown(row, false)) });
    await new Promise((resolve) => setTimeout(resolve)); // so that a {stop} is heard
    if (stopped) break;
  }
  self.postMessage({ block: rows.map((row) => shown(row, true)) });
  self.postMessage({ done: { stopped } });
}

/** What follows the end of a row is padding. */
function append(row, tokens, logprobs, raw_logprobs, ends) {
  for (let index = 0; index < tokens.length && !row.ended; index++) {
    row.ids.push(tokens[index]);
    row.pieces.push(tokenizer ? decoded([tokens[index]]) : "");
    row.logprobs.push(logprobs[index]);
    row.raw_logprobs.push(raw_logprobs[index]);
    row.ended = ends.includes(tokens[index]);
  }
}

/** With its text, whose last character may lack bytes that are still to come. */
function shown(row, last) {
  if (!tokenizer) return { ...row, text: row.ids.join(", ") };
  const text = decoded(row.ended ? row.ids.slice(0, -1) : row.ids);
  return { ...row, text: last || row.ended ? text : text.replace(/\uFFFD+$/, "") };
}

function encoded(text) {
  const ids = tokenizer.encode(text).ids;
  const starts = model.known("bos_token_id");
  if (!ids.length && !starts.length) throw new Error("the prompt is empty, and the model has no start of text");
  return ids.length ? ids : starts.slice(0, 1);
}

function decoded(ids) {
  const known = ids.filter((id) => tokenizer.id_to_token(id) !== undefined);
  return known.length ? tokenizer.decode(known, { clean_up_tokenization_spaces: false }) : "";
}

function idsOf(text) {
  return text.split(/[\s,]+/).filter(Boolean).map((word) => {
    if (!/^\d+$/.test(word)) throw new Error(`the prompt must be token ids such as 1, 2, 3, got ${word}`);
    return Number(word);
  });
}
