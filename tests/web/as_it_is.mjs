// node as_it_is.mjs web|node FILE: whether the runtime takes an input that the file has a default for, the file being
// opened as it is.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { feedsOf } from "../../web/src/feeds.mjs";
import { readModel } from "../../web/src/onnx.mjs";

const [runtime, file] = process.argv.slice(2);
const ort = createRequire(new URL("../../web/package.json", import.meta.url))(`onnxruntime-${runtime}`);
if (runtime === "web") ort.env.wasm.numThreads = 1;

const bytes = new Uint8Array(await readFile(file));
const { config, data } = readModel(bytes);
const externalData = await Promise.all(data.map(async (path) => ({ path, data: await readFile(join(dirname(file), path)) })));
const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 3, externalData });
const feeds = feedsOf(ort.Tensor, config, [[1, 2, 3]], { max_new_tokens: 4 });
const wrong = new ort.Tensor("int64", BigInt64Array.of(1n, 1n, 1n, 1n), [4]); // three are expected
const said = await session.run({ ...feeds, past_sizes: wrong }, ["sequences"]).then(
  () => "passed over",
  (error) => error.message,
);
console.log(JSON.stringify([said]));
process.exit(0);
