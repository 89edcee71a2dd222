"""Converters of indexing operators."""
