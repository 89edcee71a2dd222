"""Layer L0: devices, streams, events, buffers, machine facts. Imports telemetry, contracts, errors."""
