"""The step from shapes and that of a real trainer, compiled on eight devices; prints JSON."""

import json
import sys
from dataclasses import replace

import jax

from lorafuse_jax.parallel.mesh import MeshShape
from lorafuse_jax.workflow.shaped_step import shaped_model, shaped_step
from tests.parallel.given import trainer_on


def taken(compiled) -> dict:
    """The compiler's account of one device."""
    memory = compiled.memory_analysis()
    kinds = ("argument", "output", "alias", "temp")
    return {kind: getattr(memory, f"{kind}_size_in_bytes") for kind in kinds}


def like(leaf: jax.Array) -> jax.ShapeDtypeStruct:
    """Its shape, and where it lies."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def main() -> None:
    """Print both accounts of each mesh named."""
    found = []
    for text in sys.argv[1:]:
        trainer = trainer_on(MeshShape(**json.loads(text)))
        placement, base = trainer.placement, trainer.method.base
        batch = trainer.batches().batch(0)
        with placement.active():
            arguments = (trainer.fresh_state(), base, batch, trainer.member())
            real = trainer.step_fn.lower(*arguments).compile()
        model = trainer.model
        dtype = base["norm"]["scale"].dtype
        shapes = shaped_model("tiny", model.family, model.config, placement, dtype=dtype)
        step = shaped_step(trainer.config, shapes, placement, length=8, losses=8)
        state, base, _, member = step.arguments
        arguments = (state, base, jax.tree.map(like, batch), member)
        planned = replace(step, arguments=arguments).lower().compile()
        found.append({"real": taken(real), "planned": taken(planned)})
    print(json.dumps(found))


if __name__ == "__main__":
    main()
