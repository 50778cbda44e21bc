"""Order without state: which sample comes at a place is computed, not stored, so any step can be asked for alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

_ROUNDS = 6  # of the Feistel network; four already pass for random, the rest is margin
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64 (Steele et al., 2014), as are the two below
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


class Permutation:
    """A pseudo-random permutation of 0..size-1 chosen by a key; O(1) memory whatever the size.

    A Feistel network over the next even power of two, walked until it lands inside (Black and Rogaway,
    "Ciphers with Arbitrary Finite Domains", 2002).
    """

    def __init__(self, size: int, *key: int) -> None:
        self.size = size
        bits = max(2, (size - 1).bit_length())
        self._half = np.uint64((bits + 1) // 2)
        self._mask = np.uint64((1 << int(self._half)) - 1)
        digest = hashlib.sha512(repr((size, *key)).encode()).digest()
        self._keys = np.frombuffer(digest, np.uint64)[:_ROUNDS]

    def __call__(self, places: np.ndarray) -> np.ndarray:
        """Where each of `places` (int64, each in 0..size-1) goes: int64 of the same shape."""
        values = self._scramble(places.astype(np.uint64))
        while len(outside := np.flatnonzero(values >= np.uint64(self.size))):
            values[outside] = self._scramble(values[outside])
        return values.astype(np.int64)

    def _scramble(self, values: np.ndarray) -> np.ndarray:
        left, right = values >> self._half, values & self._mask
        for key in self._keys:
            left, right = right, left ^ (_mix(right + key) & self._mask)
        return (left << self._half) | right


def _mix(values: np.ndarray) -> np.ndarray:
    values = values * _MULTIPLIER
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))


def interleave(place: int, shares: Sequence[int]) -> tuple[int, int]:
    """(group, index within the group) of the sample at `place` when groups take turns in proportion to `shares`.

    Exact at every place: after p samples a group has had its share of p, rounded down or up. Splits the first group
    from the others, then the second from the rest, and so on; integers only.
    """
    total = sum(shares)
    for group, share in enumerate(shares):
        had = place * share // total
        if share and (place + 1) * share // total > had:
            return group, had
        place -= had
        total -= share
    raise ValueError("shares must be non-negative and not all zero")
