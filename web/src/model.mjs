// An exported file in a runtime of JavaScript: onnxruntime-web, or onnxruntime-node. One module for both, which get it
// as `ort`.
//
// A generation runs in blocks. Each is one call of the graph, which goes on from what the call before has left:
// present_* are the next call's past_* (gptloop/graph/state.py says what they hold).

import { checkRefused, feedsOf } from "./feeds.mjs";
import { readModel } from "./onnx.mjs";

const RESULTS = ["sequences", "logprobs", "raw_logprobs", "ended", "refused"];

export class Model {
  /**
   * @param {Object} ort the runtime
   * @param {Uint8Array} bytes the .onnx file
   * @param {function(string): Promise<Uint8Array>} read reads a file beside it by its name
   * @param {Object} options of the session
   * @returns {Promise<Model>}
   */
  static async open(ort, bytes, read, options = {}) {
    const { metadata, config, data, runnable } = readModel(bytes);
    const externalData = await Promise.all(data.map(async (path) => ({ path, data: await read(path) })));
    // It would warn of initializers that are of no use, which cost nothing.
    const all = { logSeverityLevel: 3, ...options, externalData };
    const session = await ort.InferenceSession.create(runnable(), all);
    return new Model(ort, session, metadata, config);
  }

  /**
   * The file as it is, for onnxruntime-node: faster than what `open` gives, but it cannot go on from a state, so that a
   * generation is one call.
   *
   * @param {Object} ort the runtime
   * @param {string} path of the .onnx file
   * @param {Uint8Array} bytes of it
   * @param {Object} options of the session
   * @returns {Promise<Model>}
   */
  static async openPath(ort, path, bytes, options = {}) {
    const { metadata, config } = readModel(bytes);
    const session = await ort.InferenceSession.create(path, { logSeverityLevel: 3, ...options });
    return new Model(ort, session, metadata, config);
  }

  constructor(ort, session, metadata, config) {
    this.metadata = metadata;
    this.config = config;
    this.Tensor = ort.Tensor;
    this.session = session;
  }

  /** Ids that the configuration has under a name such as eos_token_id, but for those outside the vocabulary. */
  known(name) {
    return [this.config[name] ?? []].flat().filter((id) => id >= 0 && id < this.config.vocab_size);
  }

  /**
   * New tokens while they are generated: rows of tokens, of log-probabilities under the distribution that they were
   * drawn from and under the model's own, and whether each row has ended. The candidates of a prompt are adjacent.
   *
   * @param {number[][]} prompts token ids, of any lengths
   * @param {Object} settings as feeds.mjs has them; `block` is how many new tokens of a row come at once
   * @yields {{tokens: number[][], logprobs: number[][], raw_logprobs: number[][], ended: boolean[]}}
   */
  async *stream(prompts, { block = 8, ...settings } = {}) {
    const whole = feedsOf(this.Tensor, this.config, prompts, settings);
    const N = Number(whole.max_new_tokens.data[0]);
    if (block < N && !this.session.inputNames.includes("past_sizes")) {
      throw new Error(`block must be max_new_tokens ${N} for a file that is opened as it is, got ${block}`);
    }
    const dims = [prompts.length, Number(whole.num_return_sequences.data[0])];
    const rows = Array.from({ length: dims[0] * dims[1] }, () => []);
    let past = this.#nothing();
    for (let G = 0; G < N; G = rows[0].length) {
      const size = Math.min(block, N - G);
      const goesOn = G + size < N;
      const outputs = await this.#run({ ...whole, ...past, max_new_tokens: this.#int64([size], 1) }, goesOn, G > 0);
      const found = resultsOf(outputs);
      found.tokens.forEach((tokens, row) => rows[row].push(...tokens));
      yield found;
      if (found.ended.every(Boolean)) return;
      if (goesOn) past = this.#after(outputs, past, rows, whole.input_ids.dims[1], dims);
    }
  }

  /** All of `stream` at once, in one call of the graph unless `block` says how many tokens come at once. */
  async generate(prompts, settings = {}) {
    const whole = { tokens: [], logprobs: [], raw_logprobs: [], ended: [] };
    for await (const found of this.stream(prompts, { block: Infinity, ...settings })) {
      for (const name of ["tokens", "logprobs", "raw_logprobs"]) {
        whole[name] = found[name].map((more, row) => [...(whole[name][row] ?? []), ...more]);
      }
      whole.ended = found.ended;
    }
    return whole;
  }

  /** Outputs by name, those that the next call goes on from among them where there is one; the prompts' from the first. */
  async #run(inputs, goesOn, resumed) {
    const { inputNames, outputNames } = this.session;
    const return_state = new this.Tensor("bool", Uint8Array.of(goesOn), [1]);
    const asked = inputNames.includes("return_state") ? { ...inputs, return_state } : inputs;
    const left = outputNames.filter((name) => name.startsWith("present_"));
    const state = goesOn ? left.filter((name) => !(resumed && name.startsWith("present_prompt"))) : [];
    const outputs = await this.session.run(asked, [...RESULTS, ...state]);
    checkRefused([...outputs.refused.data].map(Number));
    return outputs;
  }

  #int64(values, ...dims) {
    return new this.Tensor("int64", BigInt64Array.from(values, BigInt), dims);
  }

  /** What a generation starts from: inputs that past_sizes, 0 each, says not to read, and no numbers but the seed's. */
  #nothing() {
    const { inputMetadata, inputNames } = this.session;
    const optional = inputMetadata.filter(({ name }) => name.startsWith("past_"));
    const nothing = Object.fromEntries(optional.map(({ name, type, shape }) => [name, this.#zeros(type, shape)]));
    if (inputNames.includes("uniforms")) nothing.uniforms = new this.Tensor("float32", Float32Array.of(-1), [1, 1, 1]);
    return nothing;
  }

  #zeros(type, shape) {
    const dims = shape.map((size) => (typeof size === "number" && size > 0 ? size : 1));
    const kinds = { int64: BigInt64Array, bool: Uint8Array, float32: Float32Array };
    return new this.Tensor(type, new kinds[type](dims.reduce((product, size) => product * size, 1)), dims);
  }

  /** The next call's inputs. Where a call leaves none of the prompts' or the rows' K and V, those of before hold on. */
  #after(outputs, past, rows, L, dims) {
    const next = { ...past, past_ended: outputs.ended };
    for (const [name, tensor] of Object.entries(outputs)) {
      const holdsOn = !name.startsWith("present_block") && tensor.dims.includes(0);
      if (name.startsWith("present_") && !holdsOn) next[name.replace("present", "past")] = tensor;
    }
    const G = rows[0].length;
    const E = outputs["present_rows.0.key"].dims[3] || Number(past.past_sizes.data[2]);
    next.past_sizes = this.#int64([L, G, E], 3);
    next.past_sequences = this.#int64(rows.flat(), ...dims, G);
    return next;
  }
}

/** Outputs [B, R, ...] as rows. */
function resultsOf({ sequences, logprobs, raw_logprobs, ended }) {
  const N = sequences.dims[2];
  const rows = (data) => Array.from({ length: ended.data.length }, (_, row) => [...data.slice(row * N, (row + 1) * N)]);
  return {
    tokens: rows(sequences.data).map((row) => row.map(Number)),
    logprobs: rows(logprobs.data),
    raw_logprobs: rows(raw_logprobs.data),
    ended: [...ended.data].map(Boolean),
  };
}
