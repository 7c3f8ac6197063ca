"""The mean and its rescaled control in NumPy, on lists of dense matrices."""

import numpy as np


def mean(taus, weights):
    weights = [float(w) for w in weights]
    total = np.zeros(taus[0].shape)
    for w, tau in zip(weights, taus, strict=True):
        for j in np.ndindex(tau.shape):
            total[j] += w * tau[j]
    return total


def norm(matrix):
    return sum(x * x for x in matrix.ravel()) ** 0.5


def scaled_mean(taus, weights, factor=None):
    weights = [float(w) for w in weights]
    average = mean(taus, weights)
    if factor is None:
        wanted = sum(w * norm(tau) for w, tau in zip(weights, taus, strict=True))
        factor = wanted / norm(average)
    return factor * average
