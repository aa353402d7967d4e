// The page in one folder: its own files, and of the libraries those that it loads. Nothing is bundled or changed.
//
//   node build.mjs [FOLDER]      without a folder, where `gptloop web` looks for it

import { cp, mkdir, rm } from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const folder = process.argv[2] ?? join(here, "..", "gptloop", "web", "page");
const LIBRARIES = [
  "onnxruntime-web/dist/ort.wasm.min.mjs",
  "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs", // which it loads from beside it, like the next one
  "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
  "@huggingface/tokenizers/dist/tokenizers.min.mjs",
];

await rm(folder, { recursive: true, force: true });
await mkdir(join(folder, "lib"), { recursive: true });
for (const library of LIBRARIES) {
  await cp(join(here, "node_modules", library), join(folder, "lib", basename(library)));
}
await cp(join(here, "node_modules/@huggingface/tokenizers/LICENSE"), join(folder, "lib", "tokenizers.LICENSE"));
await cp(join(here, "src"), folder, { recursive: true });
