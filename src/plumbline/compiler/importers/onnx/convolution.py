"""Converters of convolution operators."""
