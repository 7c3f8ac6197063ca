"""The fused rows of the paper's question, and what each may choose on validation.

Grids are ours, small, those of the controlled world (``experiments/world/rows.py``), and have every
operator's default in them.
"""

from experiments.areas.area import BEST_MEMBER, Row

FACTORS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0)
"""Of an average, and of a single seed."""

QUANTILES = (0.8, 0.9, 0.95, 0.99)
THIRDS = (0.2, 0.5, 0.8)

SOUPS = (
    Row(name="mean", operator="mean"),
    Row(name="scaled_mean", operator="scaled_mean"),
    Row(
        name="scaled_mean-chosen",
        operator="scaled_mean",
        settings={"factor": 1.0},
        grid={"factor": FACTORS},
    ),
    Row(name="greedy_soup", operator="greedy_soup"),
    Row(name="learned_weights", operator="learned_weights"),
    Row(name="svd", operator="svd"),
    Row(name="factor_mean", operator="factor_mean"),
)
"""Averages: uniform, with the members' norm, scaled on validation, greedy, with learned weights,
brought to rank r, and of A and B apart."""

VERSION_1 = (
    Row(name="distribution_matching", operator="distribution_matching"),
    Row(
        name="distribution_matching-best",
        operator="distribution_matching",
        settings={"reference": "best", "best": BEST_MEMBER},
    ),
)
"""The ICLR submission's: the reference is the members' mean, or the best member."""

VERSION_2 = (
    Row(name="seedlora", operator="seedlora"),
    Row(
        name="seedlora-chosen",
        operator="seedlora",
        grid={"quantile": QUANTILES, "minimum_large": (1, 2)},
    ),
    Row(
        name="seedlora-stage-1",
        operator="seedlora",
        settings={"stages": "1"},
        grid={"quantile": QUANTILES, "minimum_large": (1, 2)},
    ),
    Row(
        name="seedlora-stage-2",
        operator="seedlora",
        settings={"stages": "2"},
        grid={"subspace": ("r", "2r"), "fuse": ("mean", "ties", "dare")},
    ),
    Row(name="seedlora-rank", operator="seedlora", settings={"output": "rank"}),
)
"""The ICML paper's: with defaults, chosen on validation, each stage alone, and of rank r."""

SPARSE = (
    Row(name="ties", operator="ties", grid={"density": THIRDS, "factor": (0.5, 1.0, 2.0)}),
    Row(name="dare", operator="dare", grid={"drop": THIRDS}),
    Row(name="dare_ties", operator="dare_ties", grid={"drop": THIRDS}),
    Row(name="della", operator="della", grid={"drop": THIRDS}),
    Row(
        name="breadcrumbs",
        operator="breadcrumbs",
        grid={"density": (0.5, 0.9), "factor": (1.0, 2.0)},
    ),
    Row(name="magnitude_pruning", operator="magnitude_pruning", grid={"density": (0.5, 0.8)}),
    Row(name="sce", operator="sce", grid={"density": (0.2, 0.5)}),
    Row(name="parameter_selection", operator="parameter_selection"),
)

TIES_GRID = {"density": THIRDS, "factor": (1.0, 2.0)}
EQUAL_LENGTHS = {"factor": (0.25, 0.5, 0.75)}
SPECTRAL = (
    Row(name="model_stock", operator="model_stock", grid={"scope": ("module", "global")}),
    Row(name="karcher", operator="karcher", grid={"scope": ("module", "global")}),
    Row(name="knots-ties", operator="knots:ties", grid=TIES_GRID),
    Row(name="core_space-ties", operator="core_space:ties", grid=TIES_GRID),
    Row(name="compress_then_merge-mean", operator="compress_then_merge:mean"),
    Row(name="tsv", operator="tsv", grid=EQUAL_LENGTHS),
    Row(name="iso", operator="iso", grid=EQUAL_LENGTHS),
    Row(name="lego", operator="lego", grid={"units": ("factors", "svd")}),
    Row(name="seedft", operator="seedft", grid={"share": (0.5, 0.75, 1.0)}),
)

ONE_SEED = (
    Row(
        name="scaled_member-chosen",
        operator="scaled_member",
        settings={"member": BEST_MEMBER},
        grid={"factor": FACTORS},
    ),
    Row(
        name="pome",
        operator="pome",
        settings={"member": BEST_MEMBER},
        grid={"share": (0.25, 0.5, 0.75), "factor": (0.5, 0.75)},
    ),
)
"""No fusion at all: what scale, and a spectral edit, make of the best seed on validation."""

OF_DATA = (Row(name="fisher", operator="fisher"), Row(name="regmean", operator="regmean"))
"""With statistics as large as the model, or larger: not for billions of parameters."""

NOTHING_LEARNED = (
    Row(name="random_members-mean", operator="random_members:mean"),
    Row(name="shuffled_layers-mean", operator="shuffled_layers:mean"),
)
"""Null controls."""

WITHOUT_DATA = (
    *SOUPS,
    *VERSION_1,
    *VERSION_2,
    *SPARSE,
    *SPECTRAL,
    *ONE_SEED,
    *NOTHING_LEARNED,
)
ALL_ROWS = (*WITHOUT_DATA, *OF_DATA)
"""Every row of the table."""

FEW_ROWS = tuple(
    row
    for row in ALL_ROWS
    if row.name in ("mean", "scaled_mean-chosen", "seedlora", "greedy_soup", "fisher", "pome")
)
"""For trying the pipeline out."""

CURVE_ROWS = ("mean", "scaled_mean-chosen", "seedlora-chosen")
"""What is followed over the number of seeds."""

VERSION = "seedlora-chosen"
CONTRASTS = (
    (VERSION, "mean"),
    (VERSION, "scaled_mean"),
    (VERSION, "scaled_mean-chosen"),
    (VERSION, "longer"),
    (VERSION, "rank-n-r"),
    (VERSION, "full"),
    (VERSION, "logit ensemble"),
    ("distribution_matching", "mean"),
    ("scaled_mean-chosen", "mean"),
    ("scaled_mean-chosen", "longer"),
    ("scaled_mean-chosen", "full"),
)
"""Differences between two rows of the same group that the protocol asks about."""
