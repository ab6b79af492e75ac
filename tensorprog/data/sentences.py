"""Two bundled sentences of seven and nine words, as sequences of word vectors (how made: README.md beside)."""

from __future__ import annotations

from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

SENTENCES = (
    "The brown fox jumps over the dog",
    "The quick brown fox jumps over the lazy dog",
)
DIMENSIONS = 32
_GRAMS = (1, 2, 3)  # lengths of the pieces of a word that are hashed


def sentences(selection: slice = slice(None)) -> list[NDArray[np.float64]]:
    """The selected sentences, an array (words, 32) each: their lengths differ, and kernels take such a list.

    A vector x of one word has ⟨x, x⟩/32 = 1; words that share pieces are closer than others, on average. Upper and
    lower case are the same. Raises ValueError where the selection is empty.
    """
    selected = SENTENCES[selection]
    if not selected:
        raise ValueError(f"the selection of sentences is empty: there are {len(SENTENCES)}, counted from 0")
    return [np.stack([word_vector(word) for word in sentence.split()]) for sentence in selected]


def first_words(selection: slice = slice(None)) -> NDArray[np.float64]:
    """The selected sentences as one array (N, T, 32): each at as many words as the shortest of them has."""
    chosen = sentences(selection)
    shortest = min(map(len, chosen))
    return np.stack([s[:shortest] for s in chosen])


def word_vector(word: str) -> NDArray[np.float64]:
    """The vector of a word, (32,), with ⟨x, x⟩/32 = 1: random signs for each of its pieces, added up and scaled."""
    text = f"<{word.lower()}>"
    pieces = [text[k : k + size] for size in _GRAMS for k in range(len(text) - size + 1)]
    total = np.stack([_signs(piece) for piece in pieces if piece not in "<>"]).sum(axis=0)
    return np.asarray(total * np.sqrt(DIMENSIONS / (total @ total)), np.float64)


def _signs(piece: str) -> NDArray[np.float64]:
    """Signs that only depend on the text: the first 32 bits of its SHA-256, 1 as +1 and 0 as -1."""
    digest = np.frombuffer(sha256(piece.encode()).digest()[: DIMENSIONS // 8], np.uint8)
    return np.asarray(2.0 * np.unpackbits(digest) - 1.0, np.float64)
