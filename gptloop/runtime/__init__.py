"""From a file to tokens and text: the checked call, ONNX Runtime, and what it needs. No torch; no graph is built."""
