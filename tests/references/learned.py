"""Fisher merging and RegMean in NumPy, on lists of dense matrices."""

import numpy as np


def fisher(taus, weights, informations):
    fused = np.zeros(taus[0].shape)
    w = [float(x) for x in weights]
    for j in np.ndindex(fused.shape):
        shares = [x * f[j] for x, f in zip(w, informations, strict=True)]
        if sum(shares) == 0:
            shares = w
        fused[j] = sum(w) * sum(s * tau[j] for s, tau in zip(shares, taus, strict=True))
        fused[j] /= sum(shares)
    return fused


def regmean(taus, weights, inputs, off_diagonal):
    """``inputs`` are the activations themselves, X_s [rows, I]."""
    w = [float(x) for x in weights]
    left, right = 0, 0
    for x, tau, rows in zip(w, taus, inputs, strict=True):
        gram = rows.T @ rows
        damped = off_diagonal * gram + (1 - off_diagonal) * np.diag(np.diag(gram))
        left = left + x * damped
        right = right + x * damped @ tau
    return sum(w) * np.linalg.solve(left, right)
