"""Converters of quantization operators."""
