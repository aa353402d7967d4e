"""External data in a link: read for the main graph's initializers, refused for those of a Loop's body."""

import os
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

MODEL = """<ir_version: 10, opset_import: ["": 21]>
multiply (int64 n, float[1, 64] start) => (float[1, 64] end) {
    end = Loop (n, , start) <body = step (int64 i, bool c, float[1, 64] x) => (bool c_out, float[1, 64] x_out) {
        c_out = Identity (c)
        x_out = MatMul (x, weight)
    }>
}"""

print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}", flush=True)
with tempfile.TemporaryDirectory() as folder:
    os.chdir(folder)
    for name in ("plain.data", "linked.data"):
        np.eye(64, dtype=np.float32).tofile(name)
    os.link("linked.data", "hard-link.data")
    os.symlink("plain.data", "symbolic-link.data")
    for location in ("plain.data", "hard-link.data", "symbolic-link.data"):
        for where in ("main graph", "Loop's body"):
            model = onnx.parser.parse_model(MODEL)
            weight = onnx.TensorProto(name="weight", data_type=onnx.TensorProto.FLOAT, dims=[64, 64])
            weight.data_location = onnx.TensorProto.EXTERNAL
            weight.external_data.add(key="location", value=location)
            graph = model.graph if where == "main graph" else model.graph.node[0].attribute[0].g
            graph.initializer.append(weight)
            Path("model.onnx").write_bytes(model.SerializeToString())
            try:
                session = ort.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
                (end,) = session.run(None, {"n": np.array(3), "start": np.ones((1, 64), np.float32)})
                assert (end == 1).all()
                print(f"{location}, initializer of the {where}: opens and runs", flush=True)
            except Exception as error:
                print(f"{location}, initializer of the {where}: {error}", flush=True)
    os.chdir("/")
