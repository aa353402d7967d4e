"""ReduceLogSumExp of a row whose first element is -inf: what lies far below 0 is lost."""

import numpy as np
import onnx
import onnxruntime as ort

MODEL = """<ir_version: 10, opset_import: ["": 21]>
reduce (float[S, N] rows) => (float[S, 1] result) <int64[1] axes = {1}> {
    result = ReduceLogSumExp <keepdims = 1> (rows, axes)
}"""

print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}")
session = ort.InferenceSession(onnx.parser.parse_model(MODEL).SerializeToString(), providers=["CPUExecutionProvider"])
rows = np.array([[-200, -np.inf, -200], [-np.inf, -200, -200], [-np.inf, -50, -200]], np.float32)
for row, (found,) in zip(rows, session.run(None, {"rows": rows})[0], strict=True):
    print(f"{row.tolist()}: {found:.3f}, expected {np.logaddexp.reduce(row.astype(np.float64)):.3f}")
