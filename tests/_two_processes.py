"""What each of two processes does in the contract tests; `torchrun` starts it (see test_contracts.py).

Usage: _two_processes.py FOLDER OUT: the model that `toys.build` wrote, and where the weights of each rank go.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

import toys
from afina.errors import Interrupted
from afina.train import machine


def main(folder: Path, out: Path) -> None:
    torch.set_num_threads(1)
    accelerator = machine.accelerator("fp32")
    rank = accelerator.process_index
    for name in toys.NAMES:
        weights, taken = toys.train(toys.case(name, folder), accelerator, 3, micro_tokens=24)
        save_file(weights, out / f"{name}.{rank}.safetensors")
        told = [(step.loss, step.grad_norm, step.tokens, step.rows) for step in taken]
        (out / f"{name}.{rank}.json").write_text(json.dumps(told))

    pairs = toys.case("masked_lm-full-pairs", folder)
    save_file(toys.curvature(pairs, accelerator), out / f"curvature.{rank}.safetensors")
    for kind in ("gnb", "hutchinson"):
        weights, _progress = toys.run(
            pairs, accelerator, out / kind, optimizer="sophia", curvature=kind, steps=3
        )
        save_file(weights, out / f"{kind}.{rank}.safetensors")

    staged = toys.case("classification-full", folder)._replace(method=toys.Halves())
    straight, _progress = toys.run(staged, accelerator, out / "straight")
    save_file(straight, out / f"straight.{rank}.safetensors")
    try:
        toys.run(staged, accelerator, out / "stopped", halt=asked_on(1, rank, 8))
    except Interrupted as stopped:
        (out / f"stopped.{rank}.txt").write_text(str(stopped))
    accelerator.free_memory()
    resumed, _progress = toys.run(staged, accelerator, out / "stopped", resume=True)
    save_file(resumed, out / f"resumed.{rank}.safetensors")
    accelerator.wait_for_everyone()


def asked_on(asked: int, rank: int, step: int) -> Callable[[int], None]:
    """Return what sends Ctrl-C to one of the processes as it comes to a step: both must stop there."""

    def halt(index: int) -> None:
        if rank == asked and index == step:
            os.kill(os.getpid(), signal.SIGINT)

    return halt


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    torch.distributed.destroy_process_group()
    # gloo's threads now and then abort at interpreter exit, when all work is done.
    sys.stderr.flush()
    os._exit(0)
