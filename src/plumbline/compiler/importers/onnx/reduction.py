"""Converters of reduction operators."""
