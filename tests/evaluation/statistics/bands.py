"""How far a rate of few simulated experiments may lie from the true one."""

import numpy as np


def near(found, meant, trials):
    """Within three and a half standard errors: simulations are seeded, so this is about honesty."""
    return abs(found - meant) < 3.5 * np.sqrt(meant * (1 - meant) / trials)
