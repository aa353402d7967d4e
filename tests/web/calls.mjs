// node calls.mjs web|node FILE: runs the calls on standard input, a JSON list of {prompts, settings}, with a file in
// onnxruntime-web or onnxruntime-node, and prints a list of what came, or of {error}.

import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { Model } from "../../web/src/model.mjs";

const [runtime, file] = process.argv.slice(2);
const ort = createRequire(new URL("../../web/package.json", import.meta.url))(`onnxruntime-${runtime}`);
if (runtime === "web") ort.env.wasm.numThreads = 1;

const read = async (name) => new Uint8Array(await readFile(join(dirname(file), name)));
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);

const results = [];
try {
  const model = await Model.open(ort, new Uint8Array(await readFile(file)), read);
  for (const { prompts, settings } of JSON.parse(Buffer.concat(chunks).toString())) {
    results.push(await model.generate(prompts, settings).catch((error) => ({ error: error.message })));
  }
} catch (error) {
  results.push({ error: error.message });
}
console.log(JSON.stringify(results));
process.exit(0); // onnxruntime-web keeps what it has started
