"""Several processes that share one job, as ``torchrun`` or SLURM's ``srun`` start them."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from Vox2VecCore.errors import Vox2VecError

Item = TypeVar("Item")

PATIENCE = timedelta(days=30)
"""For the slowest process."""


@dataclass(frozen=True)
class Share:
    """Which part of the work is this process's: number ``rank`` of ``count``."""

    rank: int = 0
    count: int = 1

    def of(self, items: Sequence[Item]) -> list[Item]:
        """Every ``count``-th item, so that each is taken by exactly one process."""
        return list(items[self.rank :: self.count])


def own_share() -> Share:
    """As ``torchrun``, SLURM's ``srun`` or Lightning Fabric say; all of the work without them.

    :raises Vox2VecError: if what they say makes no sense.
    """
    environment = os.environ
    for rank, counts in (
        ("RANK", ("WORLD_SIZE",)),
        ("SLURM_PROCID", ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")),
        ("LOCAL_RANK", ("WORLD_SIZE",)),  # of Fabric, which starts the processes of one machine by itself
    ):
        count = next((name for name in counts if name in environment), None)
        if rank not in environment or count is None:
            continue
        try:
            share = Share(int(environment[rank]), int(environment[count]))
        except ValueError:
            share = Share(0, 0)
        if not 0 <= share.rank < share.count:
            raise Vox2VecError(
                f"{rank}={environment[rank]} and {count}={environment[count]} name no part of the work; unset them, "
                "or start with torchrun or srun."
            )
        return share
    return Share()


def from_all(own: Item, share: Share) -> list[Item] | None:
    """What every process has to say, in order of their ranks, as soon as the last one has said it.

    ``torchrun`` stops all processes when one of them ends with an error, so that one that has met a bad scan must
    wait for the others here.

    :param own: anything that can be pickled.
    :return: ``None`` where processes know nothing of each other, as under ``srun``, which lets each end on its own.
    """
    if share.count == 1:
        return [own]
    if "MASTER_ADDR" not in os.environ or "MASTER_PORT" not in os.environ:
        return None
    import torch.distributed as dist

    if not dist.is_available():
        return None
    dist.init_process_group("gloo", rank=share.rank, world_size=share.count, timeout=PATIENCE)
    try:
        found: list[Item | None] = [None] * share.count
        dist.all_gather_object(found, own)
        # The others may still be reading what this process has sent.
        dist.barrier()
    finally:
        dist.destroy_process_group()
    return [each for each in found if each is not None]
