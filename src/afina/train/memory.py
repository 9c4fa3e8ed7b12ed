"""What does not fit into memory is taken again in smaller parts: how a step is cut changes nothing but that."""

from collections.abc import Callable, Iterable

import torch
from accelerate.utils.memory import clear_device_cache

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _
from afina.train.machine import processes

# What torch says where it has no class of its own for it: the processor's allocator, C++, a device's driver.
SIGNS = ("DefaultCPUAllocator: ", "std::bad_alloc", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
ERRORS = (RuntimeError, MemoryError)  # the classes of all that `ran_out` may be asked of


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on the processor or on a device."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(s in str(error) for s in SIGNS)


def release() -> None:
    """Let go of what a step that was given up has left; what it raised must be let go of before."""
    clear_device_cache(garbage_collection=True)


def smaller(micro: list[Batch], cut: Callable[[int], Iterable[list[Batch]]]) -> tuple[list[Batch], int]:
    """Return the rows of a step in more micro-batches than `micro`, and how many tokens each has at most: half as many.

    `cut(most)` yields the step in micro-batches of at most `most` tokens. Raises InputError where each has one row
    already, and where other processes would wait for the one that takes the step again.
    """
    _alone()
    most = max(tensor.numel() for batch in micro for tensor in batch.tensors.values())
    while most > 1:
        most //= 2
        (parts,) = cut(most)
        if len(parts) > len(micro):
            return parts, most
    raise too_large()


def halved(rows: int, length: int) -> int:
    """Return half the tokens of a batch of so many rows of one length, which was to be answered; InputError as above.

    Processes that round otherwise might disagree about which weights are the best.
    """
    _alone()
    if rows == 1:
        raise too_large()
    return rows * length // 2


def too_large() -> InputError:
    """Say that the model and one row are already too much."""
    return InputError(
        _(
            "There is too little memory for this model, even with one row at a time. Less is taken by a shorter "
            "--max-length, by --method lora and by a smaller model."
        )
    )


def _alone() -> None:
    if processes() > 1:
        raise InputError(
            _(
                "One of {n} processes ran out of memory. Give fewer --micro-batch-tokens, which change no result."
            ).format(n=processes())
        )
