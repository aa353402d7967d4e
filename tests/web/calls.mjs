// node calls.mjs web|node|path FILE: runs the calls on standard input, a JSON list of {prompts, settings}, with a file
// in onnxruntime-web or onnxruntime-node (path: opened as it is), and prints a list of what came, or of {error}.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { Model } from "../../web/src/model.mjs";
import { runtimeOf } from "./runtime.mjs";

const [runtime, file] = process.argv.slice(2);
const ort = runtimeOf(runtime);

const read = async (name) => new Uint8Array(await readFile(join(dirname(file), name)));
const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);

const results = [];
try {
  const bytes = new Uint8Array(await readFile(file));
  const model = await (runtime === "path" ? Model.openPath(ort, file, bytes) : Model.open(ort, bytes, read));
  for (const { prompts, settings } of JSON.parse(Buffer.concat(chunks).toString())) {
    results.push(await model.generate(prompts, settings).catch((error) => ({ error: error.message })));
  }
} catch (error) {
  results.push({ error: error.message });
}
process.stdout.write(JSON.stringify(results), () => process.exit(0)); // onnxruntime-web keeps what it has started
