"""Converters of pointwise operators."""
