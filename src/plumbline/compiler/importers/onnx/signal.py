"""Converters of signal operators."""
