"""SeedLoRA, both versions, entry by entry in NumPy, written from the description of the method.

Members are a list of dense matrices; nothing here knows factors, layers or JAX.
"""

import math

import numpy as np


def distribution_matching(taus, weights, reference="mean", best=0):
    weights = [float(w) for w in weights]
    average = np.sum([w * tau for w, tau in zip(weights, taus, strict=True)], axis=0)
    mu, sigma = average.mean(), average.std()
    if reference == "mean":
        mu_ref = sum(w * tau.mean() for w, tau in zip(weights, taus, strict=True))
        sigma_ref = sum(w * tau.std() for w, tau in zip(weights, taus, strict=True))
    else:
        mu_ref, sigma_ref = taus[best].mean(), taus[best].std()
    return sigma_ref * (average - mu) / sigma + mu_ref


def threshold(tau, quantile):
    ordered = sorted(abs(x) for x in tau.ravel())
    return ordered[math.ceil(quantile * (len(ordered) - 1))]


def settle(taus, weights, quantile, minimum_large, tie):
    """Stage 1: a mask and values."""
    weights = [float(w) for w in weights]
    thresholds = [threshold(tau, quantile) for tau in taus]
    settled = np.zeros(taus[0].shape, bool)
    values = np.zeros(taus[0].shape)
    for j in np.ndindex(taus[0].shape):
        large = [i for i, tau in enumerate(taus) if tau[j] != 0 and abs(tau[j]) >= thresholds[i]]
        positive = [i for i in large if taus[i][j] > 0]
        negative = [i for i in large if taus[i][j] < 0]
        if len(large) < minimum_large:
            continue
        if len(positive) > len(negative):
            kept = positive
        elif len(negative) > len(positive):
            kept = negative
        elif tie == "drop":
            continue
        else:
            total = sum(weights[i] * taus[i][j] for i in large)
            kept = positive if total > 0 else negative if total < 0 else []
        if not kept:
            continue
        settled[j] = True
        share = sum(weights[i] for i in kept)
        values[j] = sum(weights) * sum(weights[i] * taus[i][j] for i in kept) / share
    return settled, values


def ties(zs, weights, density):
    trimmed = []
    for z in zs:
        cut = threshold(z, 1 - density)
        trimmed.append(np.where(np.abs(z) >= cut, z, 0))
    fused = np.zeros(zs[0].shape)
    for j in np.ndindex(zs[0].shape):
        total = sum(w * z[j] for w, z in zip(weights, trimmed, strict=True))
        kept = [i for i, z in enumerate(trimmed) if z[j] * total > 0]
        if kept:
            share = sum(weights[i] for i in kept)
            fused[j] = sum(weights) * sum(weights[i] * trimmed[i][j] for i in kept) / share
    return fused


def in_subspace(taus, weights, size, fuse="mean", density=1.0):
    """Stage 2."""
    weights = [float(w) for w in weights]
    average = np.sum([w * tau for w, tau in zip(weights, taus, strict=True)], axis=0)
    u, _, vt = np.linalg.svd(average)
    u, vt = u[:, :size], vt[:size]
    zs = [u.T @ tau @ vt.T for tau in taus]
    if fuse == "ties":
        z = ties(zs, weights, density)
    else:
        z = sum(w * z for w, z in zip(weights, zs, strict=True))
    return u @ z @ vt


def truncated_svd(matrix, rank):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, :rank] * s[:rank] @ vt[:rank]


def seedlora(
    taus,
    weights,
    size,
    quantile=0.9,
    minimum_large=1,
    tie="sum",
    mask="after",
    fuse="mean",
    density=1.0,
):
    settled, values = settle(taus, weights, quantile, minimum_large, tie)
    rest = [np.where(settled, 0, tau) for tau in taus] if mask == "before" else taus
    return np.where(settled, values, in_subspace(rest, weights, size, fuse, density))
