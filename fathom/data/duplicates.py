"""Exact and near duplicates: MinHash signatures, banded, joined into clusters of which the first document stays.

Parameters are FineWeb's (arXiv:2406.17557, appendix): 5-word shingles, 14 bands of 8 hashes, so that documents of
Jaccard similarity 0.75 meet with a chance of three in four. Signatures come from `rensa`.
"""

from __future__ import annotations

import hashlib

import numpy as np

from fathom.data.curate import words_of
from fathom.errors import MissingExtra

SHINGLE_WORDS = 5
BANDS, HASHES_PER_BAND = 14, 8
MIN_WORDS = 20  # shorter documents are compared exactly only: "yes" and "no" share all of their shingles
MAX_CHARS = 2_000_000  # of a longer document only the beginning is compared
SEED = 1
_KEY_BYTES = 8


def exact_key(text: str) -> bytes:
    """SHA-256 of a document's text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def band_keys(text: str) -> np.ndarray:
    """uint64 [BANDS]: documents that share a value in the same band are near duplicates. Zeros: too short to say."""
    words = words_of(text[:MAX_CHARS])
    if len(words) < MIN_WORDS:
        return np.zeros(BANDS, np.uint64)
    try:
        from rensa import RMinHash
    except ImportError as error:
        raise MissingExtra("rensa") from error
    minhash = RMinHash(num_perm=BANDS * HASHES_PER_BAND, seed=SEED)
    minhash.update([" ".join(words[at : at + SHINGLE_WORDS]) for at in range(len(words) - SHINGLE_WORDS + 1)])
    signature = np.asarray(minhash.digest(), np.uint64).reshape(BANDS, HASHES_PER_BAND)
    return np.array(
        [
            int.from_bytes(hashlib.blake2b(band.tobytes(), digest_size=_KEY_BYTES).digest(), "little")
            for band in signature
        ],
        np.uint64,
    )


def clusters(exact: np.ndarray, bands: np.ndarray, considered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cluster numbers [documents] by exact text, and by exact or near likeness. Documents not considered stand alone.

    `exact` is uint64 [documents, 4] (the SHA-256), `bands` uint64 [documents, BANDS], `considered` bool [documents].
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(exact)
    members = np.flatnonzero(considered)
    exact_edges = _edges(np.ascontiguousarray(exact[members]).view("V32").ravel(), members)
    edges = [exact_edges]
    for band in range(bands.shape[1]):
        keyed = members[bands[members, band] != 0]
        edges.append(_edges(bands[keyed, band], keyed))

    def components(pairs: np.ndarray) -> np.ndarray:
        graph = coo_array((np.ones(len(pairs), np.int8), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
        return connected_components(graph, directed=False)[1]

    return components(exact_edges), components(np.concatenate(edges))


def _edges(keys: np.ndarray, members: np.ndarray) -> np.ndarray:
    """int64 [edges, 2]: each member tied to the first one of the same key."""
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    pairs = np.stack([members[first][inverse], members], axis=1)
    return pairs[pairs[:, 0] != pairs[:, 1]]


def drop_duplicates(
    exact: np.ndarray, bands: np.ndarray, sources: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, set[int]]:
    """Which of the `kept` documents are (exact, near) duplicates of an earlier one, and which sources were spared.

    `sources` numbers each document's source, in order. A source that would lose every document to earlier sources
    keeps the first of each of its own clusters instead: no source is wiped out.
    """
    exact_cluster, near_cluster = clusters(exact, bands, kept)
    exact_copy = kept & ~_first_of_each(exact_cluster, kept)
    near_copy = kept & ~_first_of_each(near_cluster, kept) & ~exact_copy
    spared = set()
    for source in np.unique(sources).tolist():
        own = kept & (sources == source)
        if own.any() and (exact_copy | near_copy)[own].all():
            spared.add(source)
            exact_copy[own] = ~_first_of_each(exact_cluster, own)[own]
            near_copy[own] = ~_first_of_each(near_cluster, own)[own] & ~exact_copy[own]
    return exact_copy, near_copy, spared


def _first_of_each(cluster: np.ndarray, among: np.ndarray) -> np.ndarray:
    """bool [documents]: the first document of each cluster among those given."""
    members = np.flatnonzero(among)
    _, first = np.unique(cluster[members], return_index=True)
    result = np.zeros(len(cluster), bool)
    result[members[first]] = True
    return result
