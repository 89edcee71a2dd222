"""Converters of pooling operators."""
