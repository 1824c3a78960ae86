"""Batches made ahead of time by processes of their own, whose troubles arrive as one sentence."""

from collections.abc import Iterator

from torch.utils.data import DataLoader, Dataset

from Vox2VecCore.errors import Vox2VecError
from Vox2VecCore.pretraining.batches import Batches, ViewPair
from Vox2VecCore.pretraining.prepare import leave_interrupts_to_parent


class ErrorsAsValues(Dataset["list[ViewPair] | Vox2VecError"]):
    """Hands errors over instead of raising them; the loader would add the traceback of its process to the message."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __getitem__(self, number: int) -> "list[ViewPair] | Vox2VecError":
        try:
            return self.batches[number]
        except Vox2VecError as error:
            return error


def load_batches(batches: Batches, first: int, processes: int) -> Iterator[list[ViewPair]]:
    """Batches in order.

    :param first: number of the first one.
    :param processes: that make batches ahead of time; 0 makes each when it is asked for.
    :raises RuntimeError: when such a process dies, from wherever the program is then.
    """
    loader = DataLoader(
        ErrorsAsValues(batches),
        batch_size=None,
        sampler=range(first, len(batches)),
        num_workers=processes,
        # Forking a process that has threads (torch has) may hang.
        multiprocessing_context="spawn" if processes else None,
        worker_init_fn=_leave_interrupts_to_parent if processes else None,
    )
    for batch in loader:
        if isinstance(batch, Vox2VecError):
            raise batch
        yield batch


def _leave_interrupts_to_parent(_number: int) -> None:
    leave_interrupts_to_parent()
