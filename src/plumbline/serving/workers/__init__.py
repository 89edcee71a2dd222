"""Layer 4, workers: device work in supervised processes beside the gateway, or on a thread of its process.

Needs `engine` for the loop inside a worker; the gateway reaches it through the port `WorkerPool` only.
"""
