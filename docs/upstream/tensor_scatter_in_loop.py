"""TensorScatter on what a Loop carries: every iteration copies the whole cache to write one row of it."""

import time

import numpy as np
import onnx
import onnxruntime as ort

MODEL = """<ir_version: 11, opset_import: ["": 24]>
write (int64 n, float[1, 12, L, 64] cache, float[1, 12, 1, 64] row) => (float[1, 12, L, 64] written) {
    zero = Constant <value_ints = [0]> ()
    written = Loop (n, , cache) <body = step (int64 i, bool going, float[1, 12, L, 64] past)
        => (bool go_on, float[1, 12, L, 64] present) {
        go_on = Identity (going)
        position = Unsqueeze (i, zero)
        present = TensorScatter <axis = 2> (past, row, position)
    }>
}"""

print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}", flush=True)
model = onnx.parser.parse_model(MODEL).SerializeToString()
quiet = ort.SessionOptions()
quiet.log_severity_level = 3
session, timed = (ort.InferenceSession(model, o, ["CPUExecutionProvider"]) for o in (ort.SessionOptions(), quiet))
row = np.ones((1, 12, 1, 64), np.float32)
for length in (64, 1024, 16384):
    cache = np.zeros((1, 12, length, 64), np.float32)
    for iterations in (1, 33):
        feeds = {"n": np.array(iterations), "cache": cache, "row": row}
        (written,) = session.run(None, feeds | {"n": np.array(1)})
        assert written.sum() == row.size
        times = []
        for _ in range(9):
            start = time.perf_counter()
            timed.run(None, feeds)
            times.append((time.perf_counter() - start) * 1e3)
        print(f"{iterations} times {row.nbytes:,} of {cache.nbytes:,} bytes: {np.median(times):.2f} ms", flush=True)
