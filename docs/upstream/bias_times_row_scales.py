"""A quantized product whose rows have a scale each, and a bias behind it, which is multiplied by the scales, too."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime as ort

MODEL = """<ir_version: 10, opset_import: ["": 21]>
multiply (uint8[S, 2] rows, float[S, 1] scales) => (float[S, 2] result)
<int8[2, 2] weight = {1, 2, 3, 4}, float[2] columns = {0.5, 0.25}, float[2] bias = {10, 20}> {
    integers = MatMulInteger (rows, weight)
    product = Cast <to = 1> (integers)
    factors = Mul (scales, columns)
    scaled = Mul (product, factors)
    result = Add (scaled, bias)
}"""

print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}")
model = onnx.parser.parse_model(MODEL).SerializeToString()
given = {"rows": np.array([[1, 1], [1, 1]], np.uint8), "scales": np.array([[1], [3]], np.float32)}
with TemporaryDirectory() as folder:
    for level in (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL):
        options = ort.SessionOptions()
        options.graph_optimization_level = level
        options.log_severity_level = 3  # an optimized model that is saved is for this machine only, it would say
        options.optimized_model_filepath = str(Path(folder) / f"{level.value}.onnx")
        session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
        operators = [node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node]
        print(f"{', '.join(operators)}: {session.run(None, given)[0].tolist()}")
