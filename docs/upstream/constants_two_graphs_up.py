"""A product in a Loop inside a Loop, of a constant of the main graph: the constant is not packed for it."""

import sys
import time

import numpy as np
import onnx
import onnxruntime as ort

BODY = """(int64 {i}, bool {c}, float[8, 1024] {x}) => (bool {c}_out, float[8, 1024] {x}_out) {{
    {c}_out = Identity ({c})
    {nodes}
}}"""
PRODUCT = "wide = MatMul (x, weight) x_out, rest = Split <axis = 1> (wide, sizes)"
INNER = f"inner {BODY.format(i='i', c='c', x='x', nodes=PRODUCT)}"
OUTER = f"outer {BODY.format(i='j', c='d', x='y', nodes=f'y_out = Loop (n, , y) <body = {INNER}>')}"
MODEL = """<ir_version: 10, opset_import: ["": 21]>
multiply (int64 n, int64 m, float[8, 1024] start) => (float[8, 1024] end) {{
    sizes = Constant <value_ints = [1024, 3072]> ()
    end = Loop ({trips}, , start) <body = {body}>
}}"""

if "--log" in sys.argv:  # to see who reserves memory for a packed weight
    ort.set_default_logger_severity(1)
print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}", flush=True)
weight = np.random.default_rng(0).standard_normal((1024, 4096), np.float32) / 64
ends = []
for name, trips, body, n, m in (("one Loop", "n", INNER, 64, 1), ("a Loop in a Loop", "m", OUTER, 8, 8)):
    model = onnx.parser.parse_model(MODEL.format(trips=trips, body=body))
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
    for packing in (True, False):
        print(f"{name}, packing {'as by default' if packing else 'disabled'}:", flush=True)
        options = ort.SessionOptions()
        options.add_session_config_entry("session.disable_prepacking", "0" if packing else "1")
        session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
        times = []
        for _ in range(9):
            begun = time.perf_counter()
            ends += session.run(None, {"n": np.array(n), "m": np.array(m), "start": np.ones((8, 1024), np.float32)})
            times.append((time.perf_counter() - begun) * 1e3)
        print(f"    64 products in {np.median(times):.0f} ms", flush=True)
assert all(np.allclose(end, ends[0], rtol=1e-3, atol=1e-5) for end in ends)
