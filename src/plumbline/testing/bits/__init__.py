"""Suites for the promise about bits: random networks and the ways of running one that must agree."""

from plumbline.testing.bits.images import random_image_network
from plumbline.testing.bits.maps import random_map_network
from plumbline.testing.bits.network import Network, NetworkWriter
from plumbline.testing.bits.rows import random_attention_network, random_perceptron, random_recurrent_network
from plumbline.testing.bits.variants import assert_same_bits, compile_network, run_poisoned, run_with_peer

__all__ = [
    "Network",
    "NetworkWriter",
    "assert_same_bits",
    "compile_network",
    "random_attention_network",
    "random_image_network",
    "random_map_network",
    "random_perceptron",
    "random_recurrent_network",
    "run_poisoned",
    "run_with_peer",
]
