"""What isolates programs on this system: tried once, by running an empty program in it."""

import sys
from functools import cache
from typing import Literal

from lorafuse_jax.evaluation.sandbox.program import Limits, Program
from lorafuse_jax.evaluation.sandbox.warden import Refused, ask_warden
from lorafuse_jax.types import UserError

Kind = Literal["root namespaces", "user namespaces", "landlock", "none"]
WAYS: tuple[Kind, ...] = ("root namespaces", "user namespaces", "landlock")


@cache
def find_isolation() -> Kind:
    """The first of ``WAYS`` that works here.

    Raises:
        UserError: none does; says why of each.
    """
    if sys.platform != "linux":
        raise UserError(
            f"generated programs can be isolated on Linux only, and this is {sys.platform}: use a "
            "Linux machine or container, or --unsafe to run them with your own rights"
        )
    reasons = []
    for kind in WAYS:
        try:
            ask_warden(Program(source="", test=""), Limits(), kind)
        except Refused as refusal:
            reasons.append(f"  {kind}: {refusal}\n")
        else:
            return kind
    raise UserError(
        "generated programs cannot be isolated here:\n" + "".join(reasons) + "one of these must be "
        "allowed (Landlock needs Linux 6.2; Docker's default profile allows it), or use --unsafe "
        "to run them with your own rights"
    )
