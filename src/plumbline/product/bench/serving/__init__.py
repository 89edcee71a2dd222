"""Measuring a served model: against other servers, under mixed load, over a long time."""
