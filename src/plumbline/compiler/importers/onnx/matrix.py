"""Converters of matrix operators."""
