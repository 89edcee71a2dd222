"""Converters of movement operators."""
