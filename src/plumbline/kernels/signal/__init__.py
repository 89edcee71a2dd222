"""Signals: discrete Fourier transforms, short-time spectra and mel filters."""

from plumbline.kernels.signal.contract import CONTRACTS

__all__ = ["CONTRACTS"]
