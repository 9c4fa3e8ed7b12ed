"""Word vectors from counts, as a start for the embeddings of a model that will see little text.

Positive pointwise mutual information, smoothed and factorised (Levy, Goldberg & Dagan 2015): a minute of counting
instead of the first million steps of guessing which words are alike.
"""

import numpy as np

SMOOTHING = 0.75  # of the context frequencies: keeps rare contexts from looking like the best ones
PAIRS_AT_ONCE = 8_000_000


def embeddings(
    tokens: np.ndarray, vocab_size: int, width: int, *, window: int = 4, seed: int = 0
) -> np.ndarray:
    """Return vectors [vocab_size, width] of unit length from a stream of token ids; tokens not seen get zeros.

    Pairs up to `window` places apart count, near ones more; sentence ends are not regarded. Memory grows with
    the number of different pairs (about 2 GB for 20 million tokens and 16,384 words).
    """
    from scipy import sparse
    from sklearn.utils.extmath import randomized_svd

    counts = sparse.csr_matrix((vocab_size, vocab_size), dtype=np.float32)
    for start in range(0, len(tokens), PAIRS_AT_ONCE):
        piece = np.asarray(tokens[start : start + PAIRS_AT_ONCE], dtype=np.int32)
        for distance in range(1, window + 1):
            weight = np.full(len(piece) - distance, 1 / distance, dtype=np.float32)
            counts += sparse.coo_matrix(
                (weight, (piece[:-distance], piece[distance:])), (vocab_size, vocab_size)
            ).tocsr()
    counts = (counts + counts.T).tocoo()
    of_word = np.asarray(counts.sum(1)).ravel()
    of_context = of_word**SMOOTHING
    # In place, and nothing kept that is not needed any more: these are the largest arrays of a whole pre-training.
    information = of_word[counts.row]
    information *= of_context[counts.col]
    information /= of_context.sum()
    np.divide(counts.data, information, out=information)
    np.log(information, out=information)
    kept = information > 0
    known = information[kept], (counts.row[kept], counts.col[kept])
    del counts, information, kept
    ppmi = sparse.csr_matrix(known, (vocab_size, vocab_size), dtype=np.float32)
    del known
    left, values, _right = randomized_svd(ppmi, width, n_iter=3, random_state=seed)
    vectors = left * np.sqrt(values)
    vectors[of_word == 0] = 0  # where few are seen, the factors that explain nothing fill those of the others
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def log_frequencies(tokens: np.ndarray, vocab_size: int) -> np.ndarray:
    """Return the log share of every token id in the stream, one added to each count."""
    counts = np.bincount(tokens, minlength=vocab_size) + 1.0
    return np.log(counts / counts.sum())
