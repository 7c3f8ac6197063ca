"""pass@k: the chance that one of k answers passes (Chen et al. 2021, arXiv 2107.03374)."""


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate from some samples, equation 1: ``1 - C(n - c, k) / C(n, k)``.

    Args:
        samples: answers of one question, n.
        passed: those that passed, c.
        k: at most n.

    Raises:
        ValueError: fewer samples than k.
    """
    if not 0 <= passed <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {passed} of them right")
    failing = 1.0
    for left in range(samples - passed + 1, samples + 1):
        failing *= max(0.0, 1 - k / left)
    return 1 - failing
