"""L4: the Open Inference Protocol over gRPC, on the ports of `plumbline.serving.ports`."""
