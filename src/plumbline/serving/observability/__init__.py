"""What a server tells about itself: metrics, spans, events, a log; names and numbers, never payloads.

Counting is done where a request passes anyway, in plain integers; everything else is computed when asked for.
"""
