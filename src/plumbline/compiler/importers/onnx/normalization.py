"""Converters of normalization operators."""
