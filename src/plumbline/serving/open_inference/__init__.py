"""L4: the Open Inference Protocol, version 2: tensors on the wire, its REST routes and their documents.

Knows the ports of `plumbline.serving.ports` and nothing behind them. The gateway carries its answers over
HTTP; `serving.grpc` shares its parameters and datatypes.
"""
