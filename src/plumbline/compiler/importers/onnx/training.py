"""Converters of training operators."""
