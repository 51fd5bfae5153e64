"""How passes are done: all rounds of a chunk at once or one by one, and in which type."""

from __future__ import annotations

import os
import time

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.func import vjp

from taylorscope.torch_backend.losses import Loss
from taylorscope.torch_backend.products import Passes
from taylorscope.torch_backend.rounds import Loaded, Rounds
from taylorscope.torch_backend.units import Layout

__all__ = ["default_memory", "tune"]

# Chunks have this many rounds at most, and are tried with this many.
MOST, TRIED = 64, 8
# On a CPU, small models take as long in double as in single precision.
SMALL = 5_000
# A product takes about so many times what a forward pass keeps: tangents, cotangents, copies.
COPIES = 8
# Rounds go together unless that is seen to take so many times as long: more of them gain more, and one measurement says little.
WORTH = 1.5


def default_memory(device: torch.device) -> int:
    """Bytes that may be taken: half of what is free on an accelerator, a quarter of the memory else."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 2
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, ValueError, OSError):
        return 2 << 30


def _bytes_of_round(passes: Passes, loaded: Loaded, dtype: torch.dtype) -> int:
    """What a forward pass through one round keeps for its derivative."""
    kept = 0

    def count(tensor: Tensor) -> Tensor:
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    at = lambda tensors: {name: tensor[0] for name, tensor in tensors.items()}  # noqa: E731
    parameters = {name: tensor.requires_grad_(tensor.is_floating_point()) for name, tensor in at(loaded.parameters).items()}
    with saved_tensors_hooks(count, lambda tensor: tensor), torch.enable_grad():
        passes.functional(dtype, parameters, at(loaded.buffers), at(loaded.inputs))
    return kept


def _product(passes: Passes, loaded: Loaded, layout: Layout, loss: Loss, dtype: torch.dtype) -> Tensor:
    """A product with the curvature, for its time."""
    names = tuple(layout.shapes)
    function = passes.function(loaded, names, dtype)
    moving = {name: loaded.parameters[name] for name in names}
    outputs, moved = passes.jvp(function, moving, moving)
    cotangents = loss.hessian_product(outputs, loaded.targets, moved)
    pulled = vjp(function, moving)[1](cotangents)[0]
    return torch.cat([pulled[name].sum(0).flatten() for name in names])


def _seconds(passes: Passes, loaded: Loaded, layout: Layout, loss: Loss, dtype: torch.dtype) -> tuple[float, Tensor]:
    """The faster of two products."""
    best, found = float("inf"), torch.zeros(0)
    for _ in range(2):
        begun = time.perf_counter()
        found = _product(passes, loaded, layout, loss, dtype)
        found[:1].cpu()
        best = min(best, time.perf_counter() - begun)
    return best, found


def tune(passes: Passes, rounds: Rounds, layout: Layout, loss: Loss, wide: torch.dtype, room: int) -> tuple[torch.dtype, str]:
    """Chooses the type of products and whether rounds go together, makes the chunks, and says so."""
    weights = sum(tensor.numel() for tensor in rounds.first.values())
    on_cpu = passes.functional.device.type == "cpu"
    dtype = wide if on_cpu and weights <= SMALL else torch.float32
    if not rounds.chunks:
        return dtype, "this process has no rounds"
    one = rounds.load(rounds.chunks[0], dtype)
    passes.bytes_of_round = _bytes_of_round(passes, one, dtype)
    needed = COPIES * (passes.bytes_of_round + one.bytes()) + 1
    most = int(max(1, min(MOST, room // 4 // needed)))
    rounds.cut(min(most, TRIED), 0)
    chunk = max(rounds.chunks, key=lambda chunk: len(chunk.rounds))
    loaded = rounds.load(chunk, dtype)
    passes.vectorized, together, apart = False, None, 0.0
    apart, expected = _seconds(passes, loaded, layout, loss, dtype)
    if len(chunk.rounds) > 1:
        passes.vectorized = True
        try:
            together, found = _seconds(passes, loaded, layout, loss, dtype)
            same = torch.allclose(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
            together = together if same else None
        except (RuntimeError, NotImplementedError, ValueError):
            together = None
        passes.vectorized = together is not None and together < WORTH * apart
    rounds.cut(most, room // 4)
    best = together if passes.vectorized and together is not None else apart
    seconds = best / len(chunk.rounds) * rounds.count
    how = "many rounds at once" if passes.vectorized else "round by round"
    return dtype, f"a product with the curvature of all rounds takes about {seconds:.2g} s ({how}, {str(dtype)[6:]})"
