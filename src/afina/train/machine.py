"""What this machine is and can do: threads, versions, and the matrix product's rate."""

import ctypes
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

LIBRARIES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "scikit-learn", "numpy")
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # names and numbers of malloc.h
# How many compiled matrix products oneDNN and torch's door to it keep, each: one for every shape, a megabyte apiece.
SHAPES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "64", "LRU_CACHE_CAPACITY": "64"}


def accelerator(precision: str) -> Accelerator:
    """Return the engine: one process, or as many as `torchrun` started; on a GPU where there is one."""
    from accelerate import DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState
    from transformers.utils.logging import disable_progress_bar

    # A method or a task may leave weights without gradient (a pooler under token labels).
    disable_progress_bar()
    keep_memory()
    AcceleratorState._reset_state()  # else a second run in this process must have the first one's precision
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    # Without a GPU accelerate would take each process of `torchrun` for the only one, unless it is told.
    several = processes() > 1 and not torch.cuda.is_available()
    return Accelerator(
        cpu=several, mixed_precision="bf16" if precision == "bf16" else "no", kwargs_handlers=[unused]
    )


def processes() -> int:
    """Return how many processes `torchrun` has started for this training."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def keep_memory() -> None:
    """Tell glibc to keep freed memory instead of giving it back to the system after every step, and oneDNN to keep less.

    Activations are large enough to be mapped and unmapped each time, and the system then clears every page anew:
    measured on BERT-mini pre-training (one thread, 4,096 tokens a step) a step takes 1.26 s with and 0.96 s without.
    That is left out where the C library is another one. In bf16 oneDNN keeps what it compiled for each of the last 1,024
    shapes, and no two steps hide the same number of words: 3.2 GB after 160 steps, 1.2 GB with SHAPES. It reads them at
    the first such product of the process, for all that the process does with it; what the person has set is left.
    """
    for name, most in SHAPES.items():
        os.environ.setdefault(name, most)
    if platform.libc_ver()[0] != "glibc":
        return
    c = ctypes.CDLL(None)
    for parameter, value in ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, 2**31 - 1), (M_TOP_PAD, 2**28)):
        c.mallopt(parameter, value)


def return_memory() -> None:
    """Give back to the system what training has freed, so that what comes after does not lie on top of it."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def seed(device: torch.device, number: int) -> None:
    """Begin the random numbers of the processor and of `device` anew.

    `torch.manual_seed` does it for every kind of device that torch knows, and notes each time who asked: 1 ms.
    """
    torch.default_generator.manual_seed(number)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(number)


def plain_attention(model: nn.Module, accelerator: Accelerator) -> None:
    """Turn off fused attention where it is the slower way: in bf16 on CPU (benchmarks/LOG.md)."""
    if accelerator.mixed_precision != "bf16" or accelerator.device.type != "cpu":
        return
    config: Any = model.config
    if config._attn_implementation == "sdpa":  # a method may have brought an attention of its own
        model.set_attn_implementation("eager")  # type: ignore[operator]


def recorded() -> dict[str, Any]:
    """Return what a repeat must know of the machine: bit-equal results need the same threads and versions."""
    return {
        "python": platform.python_version(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in LIBRARIES},
    }


def matrix_peak(precision: str, seconds: float = 0.3) -> float:
    """Return the FLOP a second that a plain matrix product reaches here and now: the best of many."""
    kind = torch.bfloat16 if precision == "bf16" else torch.float32
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = 4096 if device == "cuda" else 1024
    a, b = torch.randn(side, side, device=device).to(kind), torch.randn(side, side, device=device).to(kind)
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()
        best = max(best, 2 * side**3 / (time.perf_counter() - began))
    return best
