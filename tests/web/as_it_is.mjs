// node as_it_is.mjs web|node FILE: what a runtime says to the bytes of a file as they are, and to an input that the
// file has a default for: "passed over" where it takes neither notice nor offence.

import { readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { feedsOf } from "../../web/src/feeds.mjs";
import { readModel } from "../../web/src/onnx.mjs";
import { runtimeOf } from "./runtime.mjs";

const [runtime, file] = process.argv.slice(2);
const ort = runtimeOf(runtime);

async function said() {
  const bytes = new Uint8Array(await readFile(file));
  const { config, data } = readModel(bytes);
  const read = async (path) => ({ path, data: await readFile(join(dirname(file), path)) });
  const externalData = await Promise.all(data.map(read));
  const session = await ort.InferenceSession.create(bytes, { logSeverityLevel: 4, externalData });
  const feeds = feedsOf(ort.Tensor, config, [[1, 2, 3]], { max_new_tokens: 4 });
  const wrong = new ort.Tensor("int64", BigInt64Array.of(1n, 1n, 1n, 1n), [4]); // three are expected
  await session.run({ ...feeds, past_sizes: wrong }, ["sequences"]);
  return "passed over";
}

const message = await said().catch((error) => error.message);
process.stdout.write(JSON.stringify([message]), () => process.exit(0));
