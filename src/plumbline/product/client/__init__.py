"""A small synchronous client of a Plumbline server: `/v2` inference, the native API, and its events."""

from plumbline.product.client.client import Client
from plumbline.product.client.inference import InferAnswer
from plumbline.product.client.refusals import (
    AnswerLost,
    AnswerUnreadable,
    ServerAddressRefused,
    ServerRefusal,
    ServerUnreachable,
)

__all__ = [
    "AnswerLost",
    "AnswerUnreadable",
    "Client",
    "InferAnswer",
    "ServerAddressRefused",
    "ServerRefusal",
    "ServerUnreachable",
]
