"""ONNX models into execution graphs.

`convert.import_onnx` walks the records of `onnx_wire` and calls one converter per node. A converter is a
function

    @converts("Softmax", since=13)
    def softmax(node: NodeView) -> Converted: ...

that reads operands and attributes through `NodeView`, adds operators of ours through `node.add1(...)`, and
returns the tensors of the node's outputs in order. `since` is the first opset whose meaning it covers; the
newest one not above the model's opset is used. Operators without a converter are expanded through the
function body that the model or the ONNX standard defines for them; what remains is refused by name. Modules
listed in `registry.FAMILIES` are loaded on first use.
"""

from plumbline.compiler.importers.onnx.convert import ImportOptions, import_onnx

__all__ = ["ImportOptions", "import_onnx"]
