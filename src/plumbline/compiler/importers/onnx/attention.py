"""Converters of attention operators."""
