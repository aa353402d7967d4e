"""A quantized product of one row, with a scale for each column: the scales take longer than to multiply afterwards."""

import time

import numpy as np
import onnx
import onnxruntime as ort

MODEL = """<ir_version: 10, opset_import: ["": 21]>
multiply (uint8[1, 64] row, float[1] unit) => (float[1, 200000] result) <float[1] one = {{1}}> {{
    integers = MatMulInteger (row, weight)
    product = Cast <to = 1> (integers)
    factors = Mul (unit, {inside})
    scaled = Mul (product, factors)
    result = {behind}
}}"""
ARMS = {
    "scales of columns in the product": ("columns", "Identity (scaled)"),
    "scales of columns behind it": ("one", "Mul (scaled, columns)"),
}

print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}")
random = np.random.default_rng(0)
weight = random.integers(-127, 128, (64, 200_000)).astype(np.int8)
columns = random.random(200_000, np.float32)
given = {"row": random.integers(0, 256, (1, 64)).astype(np.uint8), "unit": np.ones(1, np.float32)}
results = []
for name, (inside, behind) in ARMS.items():
    model = onnx.parser.parse_model(MODEL.format(inside=inside, behind=behind))
    model.graph.initializer.extend([onnx.numpy_helper.from_array(weight, "weight")])
    model.graph.initializer.extend([onnx.numpy_helper.from_array(columns, "columns")])
    options = ort.SessionOptions()
    options.log_severity_level = 3  # of an initializer that is not used
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    times = []
    for _ in range(31):
        begun = time.perf_counter()
        (result,) = session.run(None, given)
        times.append((time.perf_counter() - begun) * 1e3)
    results.append(result)
    print(f"{name}: {np.median(times):.2f} ms")
print(f"the results are {'equal' if np.array_equal(*results) else 'not equal'}")
