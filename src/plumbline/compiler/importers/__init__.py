"""Model files into graphs: ONNX, Hugging Face folders. Untrusted input ends here.
Sees `compiler.graph` and below.
"""
