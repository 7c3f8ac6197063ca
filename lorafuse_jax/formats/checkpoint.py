"""Training checkpoints through orbax: whole or not there at all."""

from pathlib import Path
from typing import TypeVar, cast

import jax
import orbax.checkpoint as ocp

from lorafuse_jax.types import UserError

Tree = TypeVar("Tree")


class Checkpoints:
    """The newest two checkpoints of a run; orbax renames each into place when it is complete."""

    def __init__(self, folder: Path) -> None:
        """Open, or prepare to create, the checkpoints of ``folder``."""
        self.folder = folder.absolute()
        options = ocp.CheckpointManagerOptions(max_to_keep=2, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(self.folder, options=options)

    def latest(self) -> int | None:
        """The newest step there is, or None."""
        return self._manager.latest_step()

    def save(self, step: int, tree: object) -> None:
        """Write ``tree`` as the checkpoint of ``step``; returns when it is on disk."""
        self._manager.save(step, args=ocp.args.StandardSave(tree))
        self._manager.wait_until_finished()

    def restore(self, step: int, like: Tree) -> Tree:
        """The tree saved at ``step``; ``like`` gives structure, shapes and types.

        Raises:
            UserError: what is on disk is damaged or of another structure.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            restored = self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise UserError(
                f"{self.folder / str(step)}: the checkpoint cannot be read ({error}); remove that "
                "folder to go on from the one before, or remove the run to start again"
            ) from error
        return cast(Tree, restored)

    def close(self) -> None:
        """Let go of orbax's threads."""
        self._manager.close()
