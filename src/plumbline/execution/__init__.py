"""Layer L2: executables, contexts, the executor. Imports kernels, hardware, telemetry, contracts, errors."""
