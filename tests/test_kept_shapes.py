"""In bf16 on CPU a matrix product is compiled for every shape: what is kept of that does not grow with the steps."""

import os
import platform
import subprocess
import sys

import pytest
import torch

from afina.train.machine import SHAPES

PRODUCTS = """
import ctypes, sys
import torch
from afina.train.machine import keep_memory

class Heap(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena a b c mapped d e used f g".split()]

c = ctypes.CDLL(None)
c.mallinfo2.restype = Heap
if sys.argv[1] == "kept":
    keep_memory()
torch.set_num_threads(1)
weight = torch.randn(256, 1024).bfloat16().requires_grad_()
for rows in range(20, 320):
    (torch.randn(rows, 256).bfloat16() @ weight).float().sum().backward()
    weight.grad = None
    if rows == 20:
        before = c.mallinfo2()
after = c.mallinfo2()
print(after.used + after.mapped - before.used - before.mapped)
"""


def growth(how: str) -> int:
    """Return by how many bytes the heap of a process grew over 300 products of different shapes."""
    clean = {name: value for name, value in os.environ.items() if name not in SHAPES}
    done = subprocess.run(
        [sys.executable, "-c", PRODUCTS, how], env=clean, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


def asked() -> bool:
    """Whether the C library can say what a process holds."""
    name, version = platform.libc_ver()
    return name == "glibc" and tuple(map(int, version.split(".")[:2])) >= (2, 33)


@pytest.mark.skipif(not asked(), reason="asks glibc, 2.33 or later, what a process holds")
def test_products_of_many_shapes_are_not_all_kept():
    if not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        pytest.skip("this processor takes no bf16 through oneDNN")
    plain = growth("plain")
    if plain < 20 * 2**20:
        pytest.skip("this build of torch keeps little by itself")
    assert growth("kept") < plain / 2
