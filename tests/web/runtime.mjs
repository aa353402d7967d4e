// ONNX Runtime for JavaScript, of those that `npm ci --prefix web` installs.

import { createRequire } from "node:module";

const require = createRequire(new URL("../../web/package.json", import.meta.url));

/** @param {string} name "web" for onnxruntime-web on one thread, anything else for onnxruntime-node */
export function runtimeOf(name) {
  const ort = require(name === "web" ? "onnxruntime-web" : "onnxruntime-node");
  if (name === "web") ort.env.wasm.numThreads = 1;
  return ort;
}
