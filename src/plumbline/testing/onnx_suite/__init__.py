"""The ONNX backend test suite through native code.

`run_onnx_suite()` takes the cases that the installed `onnx` package generates or carries, compiles
each, runs it, and classifies it; `python -m plumbline.testing.onnx_suite --operator Relu` does
the same for one operator. Needs numpy and onnx.
"""

from plumbline.testing.onnx_suite.batches import run_onnx_suite
from plumbline.testing.onnx_suite.cases import KINDS, SuiteCase, load_cases
from plumbline.testing.onnx_suite.report import CaseResult, Outcome, SuiteReport

__all__ = ["KINDS", "CaseResult", "Outcome", "SuiteCase", "SuiteReport", "load_cases", "run_onnx_suite"]
