"""Converters of recurrent operators."""
