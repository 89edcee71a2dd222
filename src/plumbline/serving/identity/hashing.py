"""Argon2id over key secrets.

A secret has 256 random bits, so its hash needs no stretching to withstand guessing; the parameters (RFC 9106,
section 4, second recommendation, with less memory) make a stolen table worthless even if it had not.
"""

from __future__ import annotations

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

__all__ = ["hash_secret", "is_secret"]

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def hash_secret(secret: str) -> str:
    """The text to keep. Takes tens of milliseconds: not for the event loop."""
    return _HASHER.hash(secret)


def is_secret(kept: str, secret: str) -> bool:
    """Whether a secret belongs to a kept hash, compared in constant time. Takes tens of milliseconds."""
    try:
        return _HASHER.verify(kept, secret)
    except (Argon2Error, InvalidHashError):
        return False
