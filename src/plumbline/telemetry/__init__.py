"""Telemetry: trace points as JSON lines, metadata only. Imports contracts and errors. Logs may be lost."""
