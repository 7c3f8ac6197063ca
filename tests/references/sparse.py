"""Sparsifying operators entry by entry in NumPy, on lists of dense matrices."""

import math

import numpy as np


def largest(tau, density):
    """True for the floor(density * n) entries of largest magnitude, at least one."""
    count = max(1, int(density * tau.size))
    kept = np.zeros(tau.size, bool)
    kept[np.argsort(-np.abs(tau).ravel(), kind="stable")[:count]] = True
    return kept.reshape(tau.shape)


def consensus(taus, weights, election="mass", average="weights"):
    fused = np.zeros(taus[0].shape)
    for j in np.ndindex(fused.shape):
        entries = [float(tau[j]) for tau in taus]
        opinions = entries
        if election.startswith("mass"):
            opinions = [w * x for w, x in zip(weights, entries, strict=True)]
        won = np.sign(sum(np.sign(opinions) if election == "count" else opinions))
        if won == 0 and election != "mass":
            won = 1
        elected = [s for s, x in enumerate(opinions) if x != 0 and np.sign(x) == won]
        if not elected:
            continue
        total = sum(weights[s] * entries[s] for s in elected)
        if average == "weights":
            total *= sum(weights) / sum(weights[s] for s in elected)
        elif average == "count":
            total /= len(elected)
        fused[j] = total
    return fused


def floats(weights):
    return [float(w) for w in weights]


def ties(taus, weights, density, factor=1.0, election="mass", average="weights"):
    trimmed = [np.where(largest(tau, density), tau, 0) for tau in taus]
    return factor * consensus(trimmed, floats(weights), election, average)


def magnitude_pruning(taus, weights, density):
    trimmed = [np.where(largest(tau, density), tau, 0) for tau in taus]
    return sum(w * tau for w, tau in zip(floats(weights), trimmed, strict=True))


def breadcrumbs(taus, weights, density, outliers, factor=1.0):
    fused = np.zeros(taus[0].shape)
    for w, tau in zip(floats(weights), taus, strict=True):
        order = np.argsort(np.abs(tau).ravel())
        top = len(order) - int(outliers * len(order))
        bottom = max(0, top - int(density * len(order)))
        top = bottom + int(density * len(order))
        mask = np.zeros(len(order))
        mask[order[bottom:top]] = 1
        fused += factor * w * tau * mask.reshape(tau.shape)
    return fused


def keep_probabilities(tau, drop, window):
    """Of a kernel [I, O]: ranks among the inputs of one output."""
    keep = np.zeros(tau.shape)
    for output in range(tau.shape[1]):
        order = sorted(range(tau.shape[0]), key=lambda i: abs(tau[i, output]))
        for rank, i in enumerate(order):
            keep[i, output] = 1 - drop - window / 2 + window * rank / (tau.shape[0] - 1)
    return keep


def sce(taus, weights, density):
    w = floats(weights)
    variance = np.var(np.stack(taus), axis=0)
    if density < 1:
        count = int(density * np.count_nonzero(variance))
        chosen = np.zeros(variance.size, bool)
        chosen[np.argsort(-variance.ravel())[:count]] = True
        taus = [np.where(chosen.reshape(variance.shape), tau, 0) for tau in taus]
    moved = [float((tau**2).sum()) for tau in taus]
    fused = np.zeros(variance.shape)
    for j in np.ndindex(fused.shape):
        won = np.sign(sum(tau[j] for tau in taus))
        elected = [s for s, tau in enumerate(taus) if tau[j] != 0 and np.sign(tau[j]) == won]
        share = sum(w[s] * moved[s] for s in elected)
        if elected:
            total = math.fsum(w[s] * moved[s] * taus[s][j] for s in elected)
            fused[j] = sum(w) * total / share
    return fused
