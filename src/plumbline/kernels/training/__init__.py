"""Optimiser steps as operations, and n-gram counts."""

from plumbline.kernels.training.contract import CONTRACTS

__all__ = ["CONTRACTS"]
