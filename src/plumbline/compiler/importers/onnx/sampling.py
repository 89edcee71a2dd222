"""Converters of sampling operators."""
