// The graph's inputs for a generation: settings by the names of Python's `generate`, checked as far as the graph
// cannot check them itself, as tensors.
//
// Knows the graph's inputs (gptloop/names.py says what each is); runs nothing.

const MAX_INT64 = 2n ** 63n - 1n;

// What a call may ask for: how it becomes a tensor, and the default. One value, or one for each prompt.
const PER_PROMPT = {
  temperature: ["float32", 1],
  top_k: ["int64", 50],
  top_p: ["float32", 1],
  min_p: ["float32", 0],
  repetition_penalty: ["float32", 1],
  no_repeat_ngram_size: ["int64", 0],
  min_new_tokens: ["int64", 0],
};
// For all prompts.
const OTHERS = {
  max_new_tokens: 20,
  num_return_sequences: 1,
  first_candidate: 0,
  seed: 0, // prompt i has seed + i; or one for each prompt
  eos_token_id: null, // an id, several, or null
  stop_sequences: [], // of ids
  sequence_bias: [], // pairs of ids and a number
  pad_token_id: null, // the first eos_token_id, or 0
};

// What the graph's output `refused` counts, from 1.
const REFUSABLE = [
  "input_ids",
  "attention_mask",
  "max_new_tokens",
  "min_new_tokens",
  "num_return_sequences",
  "first_candidate",
  "temperature",
  "top_k",
  "top_p",
  "min_p",
  "repetition_penalty",
  "no_repeat_ngram_size",
  "sequence_bias_ids",
  "sequence_bias",
  "eos_token_ids",
  "stop_sequences",
  "pad_token_id",
];

/**
 * @param {Function} Tensor the runtime's
 * @param {{vocab_size: number, n_positions: number}} config the model's
 * @param {number[][]} prompts token ids, of any lengths
 * @param {Object} settings by name
 * @returns {Object} tensors by the graph's names
 * @throws {Error} naming what is wrong
 */
export function feedsOf(Tensor, config, prompts, settings) {
  const unknown = Object.keys(settings).find((name) => !(name in PER_PROMPT) && !(name in OTHERS));
  if (unknown) throw new Error(`no setting is called ${unknown}`);
  const given = { ...OTHERS, ...settings };
  const B = prompts.length;
  const P = Math.max(...prompts.map((ids) => ids.length));
  checkLengths(config, prompts, P, given.max_new_tokens);
  const ends = [given.eos_token_id ?? []].flat();
  const biases = given.sequence_bias.length ? given.sequence_bias : [[[], 0]];
  const int64 = (name, values, ...dims) => new Tensor("int64", wholes(name, values), dims);
  const padded = (fill, ids) => prompts.flatMap((prompt) => [...Array(P - prompt.length).fill(fill), ...ids(prompt)]);
  const sequences = (name, several) => {
    const W = Math.max(1, ...several.map((ids) => ids.length));
    const rows = several.length ? several : [[]];
    return int64(name, rows.flatMap((ids) => [...Array(W - ids.length).fill(-1), ...ids]), 1, rows.length, W);
  };
  return {
    input_ids: int64("input_ids", padded(0, (prompt) => prompt), B, P),
    attention_mask: int64("attention_mask", padded(0, (prompt) => prompt.map(() => 1)), B, P),
    max_new_tokens: int64("max_new_tokens", [given.max_new_tokens], 1),
    num_return_sequences: int64("num_return_sequences", [given.num_return_sequences], 1),
    first_candidate: int64("first_candidate", [given.first_candidate], 1),
    ...perPrompt(Tensor, config, given, B),
    sequence_bias_ids: sequences("sequence_bias", biases.map(([ids]) => ids)),
    sequence_bias: new Tensor("float32", Float32Array.from(biases, ([, bias]) => bias), [1, biases.length]),
    eos_token_ids: int64("eos_token_id", ends.length ? ends : [-1], 1, ends.length || 1),
    stop_sequences: sequences("stop_sequences", given.stop_sequences),
    pad_token_id: int64("pad_token_id", [given.pad_token_id ?? ends[0] ?? 0], 1),
    return_logprobs: new Tensor("bool", Uint8Array.of(1), [1]),
    seed: int64("seed", seedsOf(given.seed, B), B),
  };
}

/** @throws {Error} if the graph's output `refused` says that an input is out of its bounds */
export function checkRefused(numbers) {
  const prompt = numbers.findIndex((number) => number > 0);
  if (prompt < 0) return;
  const whose = numbers.length > 1 ? ` of prompt ${prompt + 1}` : "";
  throw new Error(`${REFUSABLE[numbers[prompt] - 1]}${whose} is out of its bounds`);
}

function checkLengths(config, prompts, P, N) {
  if (!prompts.length || prompts.some((ids) => !ids.length)) throw new Error("a prompt must have at least 1 token");
  const [count] = wholes("max_new_tokens", [N]);
  if (count < 1n || P + Number(count) > config.n_positions) {
    const left = `${config.n_positions - P}, which ${P} tokens of prompt leave of ${config.n_positions}`;
    throw new Error(`max_new_tokens must be 1 to ${left}, got ${N}`);
  }
}

function perPrompt(Tensor, config, given, B) {
  const tensors = Object.entries(PER_PROMPT).map(([name, [type, off]]) => {
    const value = given[name] ?? (name === "top_k" ? Math.min(off, config.vocab_size) : off);
    const values = [value].flat();
    if (values.length !== 1 && values.length !== B) {
      throw new Error(`${name} must be one value or one for each of ${B} prompts, got ${values.length}`);
    }
    const numbers = type === "int64" ? wholes(name, values) : Float32Array.from(values, Number);
    return [name, new Tensor(type, numbers, [values.length])];
  });
  return Object.fromEntries(tensors);
}

function seedsOf(seed, B) {
  const [first, ...more] = wholes("seed", [seed].flat());
  const seeds = more.length ? [first, ...more] : Array.from({ length: B }, (_, prompt) => first + BigInt(prompt));
  if (seeds.length !== B) {
    throw new Error(`seed must be one number or one for each of ${B} prompts, got ${seeds.length}`);
  }
  if (seeds.some((one) => one < 0n || one > MAX_INT64)) throw new Error(`seed must be 0 to 2^63 - 1, got ${seed}`);
  return seeds;
}

function wholes(name, values) {
  return BigInt64Array.from(values, (value) => {
    let whole;
    try {
      whole = BigInt(value);
    } catch {
      throw new Error(`${name} must be an integer, got ${value}`);
    }
    if (whole < -1n || whole > MAX_INT64) throw new Error(`${name} is out of its bounds: ${value}`);
    return whole;
  });
}
