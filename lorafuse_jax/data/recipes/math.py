"""MATH (2103.03874): competition problems with solutions in LaTeX."""

import re

from lorafuse_jax.data.recipes.recipe import Recipe

SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)


def answer_of(solution: str) -> str | None:
    r"""What the last ``\boxed{...}`` or ``\fbox{...}`` holds, braces balanced.

    ``\boxed 5`` holds what follows up to a space or the end of the formula. Braces after a
    backslash are signs of the formula, not brackets. None if there is no box, or it does not end.
    """
    box = max(solution.rfind(r"\boxed"), solution.rfind(r"\fbox"))
    if box < 0:
        return None
    after = re.sub(r"^\\(boxed|fbox)\s*", "", solution[box:])
    if not after.startswith("{"):
        return re.split(r"[\s$]", after)[0] or None
    depth = 0
    for sign in re.finditer(r"\\.|[{}]", after, re.DOTALL):
        depth += {"{": 1, "}": -1}.get(sign.group(), 0)
        if depth == 0 and sign.group() == "}":
            return after[1 : sign.start()].strip() or None
    return None


RECIPE = Recipe(
    about="12,500 competition problems of seven subjects with solutions",
    licence="MIT",
    hub="EleutherAI/hendrycks_math",
    configs=SUBJECTS,
    splits={"train": "train", "test": "test"},
    columns=("problem", "solution"),
    to_row=lambda row: {
        "prompt": row["problem"],
        "completion": row["solution"],
        "answer": answer_of(row["solution"]),
    },
    held_out=5,
    template="qa",
)
