"""What does not fit into memory is taken again in smaller parts: how a step is cut changes nothing but that."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from accelerate.utils.memory import clear_device_cache

from afina.core import Batch
from afina.errors import InputError
from afina.messages import _
from afina.train.machine import processes

# What torch says where it has no class of its own for it: the processor's allocator, C++, a device's driver.
SIGNS = ("DefaultCPUAllocator: ", "std::bad_alloc", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
# oneDNN keeps the reason to itself. Each is the whole message: "could not create a primitive descriptor …" says that a
# shape or type is wrong, and once there is a descriptor there is hardly a reason left but memory.
ONEDNN = ("could not create a primitive", "could not execute a primitive")
ERRORS = (RuntimeError, MemoryError)  # the classes of all that `ran_out` may be asked of


GROUPS = Path("/sys/fs/cgroup")  # what Linux lets containers and jobs have
# The files of a group that say how much it may have, how much it has, and which line of memory.stat how much of that is
# only kept for reading again: of the second version of groups, and of the first.
LIMITS = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free(device: torch.device) -> int | None:
    """Return how many bytes are free on a CUDA device, or in this machine and its control group; None where unknown.

    Of the processor only Linux tells. The limits of groups further up are not looked at.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        told = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
        available = 1024 * int(told["MemAvailable"].split()[0])
        groups = [
            line.rpartition(":")[2].lstrip("/") for line in Path("/proc/self/cgroup").read_text().split()
        ]
    except (OSError, KeyError, ValueError):
        return None
    return min([available, *_left(["", *groups])])


def _left(groups: Iterable[str]) -> Iterator[int]:
    """Yield how many bytes are left to each of the control groups that have a limit."""
    for group in groups:
        for kind, limit, used, reread in LIMITS:
            place = GROUPS / kind / group
            try:
                stat = dict(line.split() for line in (place / "memory.stat").read_text().splitlines())
                most, taken = (int((place / name).read_text()) for name in (limit, used))
                yield max(0, most - taken + int(stat.get(reread, 0)))
            except (OSError, ValueError):  # no such group, or "max": no limit
                continue


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on the processor or on a device."""
    said = str(error)
    return (
        isinstance(error, torch.OutOfMemoryError | MemoryError)
        or said in ONEDNN
        or any(sign in said for sign in SIGNS)
    )


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
            "--max-length, by --activation-checkpointing in training, by --method lora and by a smaller model."
        )
    )


def _alone() -> None:
    if processes() > 1:
        raise InputError(
            _(
                "One of {n} processes ran out of memory. Give fewer --micro-batch-tokens, which change no more than rounding and the draws of dropout."
            ).format(n=processes())
        )
