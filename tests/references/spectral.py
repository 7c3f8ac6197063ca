"""Spectral operators on dense matrices in NumPy. Matrices are the papers' D [O, I]."""

import numpy as np


def floats(weights):
    return [float(w) for w in weights]


def thin_svd(matrix):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    return u[:, s > 1e-9], s[s > 1e-9], vt[s > 1e-9]


def polar(matrix):
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    there = s > 1e-9
    return u[:, there] @ vt[there]


def tsv(taus, weights, directions, factor=1.0):
    us, vs, scales = [], [], []
    for w, tau in zip(floats(weights), taus, strict=True):
        u, s, vt = thin_svd(tau)
        us.append(u[:, :directions])
        vs.append(vt[:directions].T)
        scales.append(w * s[:directions])
    return factor * polar(np.hstack(us)) @ np.diag(np.hstack(scales)) @ polar(np.hstack(vs)).T


def iso(taus, weights, factor=1.0):
    u, s, vt = thin_svd(sum(w * tau for w, tau in zip(floats(weights), taus, strict=True)))
    return factor * s.mean() * u @ vt


def aligned(taus):
    """U, s and the members' V_s [I, K] of [D_1|..|D_n]."""
    u, s, vt = thin_svd(np.hstack(taus))
    return u, s, [block.T for block in np.hsplit(vt, len(taus))]


def knots(taus, fuse, scaled=False):
    u, s, vs = aligned(taus)
    if scaled:
        return u @ fuse([v @ np.diag(s) for v in vs]).T
    return u @ np.diag(s) @ fuse(vs).T


def seedft(taus, weights, kept, rescale):
    u, s, vs = aligned(taus)
    w = floats(weights)
    v = polar(sum(x * block[:, :kept] for x, block in zip(w, vs, strict=True)))
    size = sum(w) / (len(taus) ** 0.5 if rescale else 1)
    return size * u[:, :kept] @ np.diag(s[:kept]) @ v.T


def in_core(taus, fuse, size=None, factors=None):
    """Of (a [R, I], b [O, R]) pairs if ``factors`` are given, else of the deltas."""
    if factors is None:
        u, v = thin_svd(np.hstack(taus))[0], thin_svd(np.vstack(taus))[2].T
    else:
        u = thin_svd(np.hstack([b for _, b in factors]))[0]
        v = thin_svd(np.vstack([a for a, _ in factors]))[2].T
    u, v = u[:, :size], v[:, :size]
    return u @ fuse([u.T @ tau @ v for tau in taus]) @ v.T


def compressed(taus, fuse, size, beta, iterations):
    """Tucker-2 by alternating singular vectors, of members whose norms beta evens out."""
    norms = [np.linalg.norm(tau) for tau in taus]
    even = [
        (beta * n + (1 - beta) * sum(norms) / len(norms)) * tau / n
        for n, tau in zip(norms, taus, strict=True)
    ]
    u, v = thin_svd(np.hstack(even))[0][:, :size], thin_svd(np.vstack(even))[2].T[:, :size]
    for _ in range(iterations):
        u = thin_svd(np.hstack([tau @ v for tau in even]))[0][:, :size]
        v = thin_svd(np.hstack([tau.T @ u for tau in even]))[0][:, :size]
    return u @ fuse([u.T @ tau @ v for tau in taus]) @ v.T


def pome(taus, weights, member, kept, factor=1.0):
    u, s, vt = thin_svd(taus[member])
    length = np.sqrt((s**2).sum() / kept)
    return factor * sum(floats(weights)) * length * u[:, :kept] @ vt[:kept]


def lego(factors, weights, k, reweight, steps=20):
    """Of (a [R, I], b [O, R]) pairs: Lloyd's k-means over the units, one unit at a time."""
    units = [
        (w, np.concatenate([row, column]))
        for w, (a, b) in zip(floats(weights), factors, strict=True)
        for row, column in zip(a, b.T, strict=True)
    ]
    seeds = [unit for w, unit in units if w]
    centres = [max(seeds, key=lambda unit: unit @ unit)]
    while len(centres) < k:
        centres.append(max(seeds, key=lambda unit: min(((unit - c) ** 2).sum() for c in centres)))
    clusters = []
    for _ in range(steps + 1):
        clusters = [[] for _ in centres]
        for w, unit in units:
            near = min(range(k), key=lambda c: ((unit - centres[c]) ** 2).sum())
            clusters[near].append((w, unit))
        clusters = [[(w, unit) for w, unit in cluster if w] for cluster in clusters]
        centres = [
            np.average([unit for _, unit in cluster], axis=0, weights=[w for w, _ in cluster])
            if cluster
            else centre
            for cluster, centre in zip(clusters, centres, strict=True)
        ]
    fan_in, rank = factors[0][0].shape[1], factors[0][0].shape[0]
    total = 0
    for cluster, centre in zip(clusters, centres, strict=True):
        if cluster:
            lengths = [np.linalg.norm(unit) for _, unit in cluster]
            wanted = np.average(lengths, weights=[w for w, _ in cluster])
            unit = centre * wanted / np.linalg.norm(centre) if reweight else centre
            total = total + np.outer(unit[fan_in:], unit[:fan_in])
    return sum(floats(weights)) * (rank / k) ** 0.5 * total
