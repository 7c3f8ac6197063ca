"""Weighted sums, arcs and rescaled means in NumPy, on lists of dense matrices."""

import math

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


def task_arithmetic(taus, weights, factor):
    return len(taus) * factor * mean(taus, weights)


def cosine(one, other):
    lengths = norm(one) * norm(other)
    return float((one * other).sum() / lengths) if lengths else 0.0


def slerp(taus, weights):
    w = [float(x) for x in weights]
    t = w[1] / (w[0] + w[1])
    c = cosine(*taus)
    if abs(c) >= 0.9995:
        return mean(taus, weights)
    angle = math.acos(c)
    first = math.sin((1 - t) * angle) / math.sin(angle)
    second = math.sin(t * angle) / math.sin(angle)
    return (w[0] + w[1]) * (first * taus[0] + second * taus[1])


def karcher(taus, weights, iterations=200):
    """On the sphere in all entries, by gradient descent on the sum of squared angles."""
    present = [(float(w), tau) for w, tau in zip(weights, taus, strict=True) if norm(tau)]
    scale = sum(w * norm(tau) for w, tau in present)
    mass = sum(w for w, _ in present)
    units = [(w / mass, tau / norm(tau)) for w, tau in present]
    x = sum(w * u for w, u in units)
    x = x / norm(x)
    for _ in range(iterations):
        tangent = np.zeros(x.shape)
        for w, u in units:
            c = min(1.0, max(-1.0, float((u * x).sum())))
            rest = u - c * x
            if norm(rest) > 1e-12:
                tangent += w * math.acos(c) * rest / norm(rest)
        size = norm(tangent)
        if size < 1e-14:
            break
        x = math.cos(size) * x + math.sin(size) * tangent / size
    return scale * x


def model_stock(taus, weights):
    n = len(taus)
    pairs = [(i, j) for i in range(n) for j in range(i)]
    c = sum(cosine(taus[i], taus[j]) for i, j in pairs) / len(pairs)
    return n * c / (1 + (n - 1) * c) * mean(taus, weights)


def factor_mean(factors, weights):
    """Of pairs (a [I, R], b [R, O])."""
    w = [float(x) for x in weights]
    a = sum(x * a for x, (a, _) in zip(w, factors, strict=True)) / sum(w)
    return a @ sum(x * b for x, (_, b) in zip(w, factors, strict=True))
