"""A PyTorch model as the list of layers that the engine knows, or the name of what stands in the way.

`graph` finds what a model does in which order, `rules` say which layer each of its steps is, `chain` puts layers together.
"""

from __future__ import annotations

from torch import nn

from taylorscope._tensors import unwrapped
from taylorscope.convert.chain import Chain, Converted, Obstacle
from taylorscope.convert.graph import steps_of

__all__ = ["Converted", "layers_of"]


def layers_of(model: nn.Module, shape: list[int], loss: str) -> Converted | str:
    """The layer list of a model that is called with inputs of `shape` (`[datapoints, ...]`), or what stands in the way.

    `loss` is the name of the loss; a model that ends in `log_softmax` before `nll` is one with `cross_entropy`. Dropout counts if it does
    something as the model is now, in training or not.
    """
    inner = unwrapped(model)
    try:
        chain = Chain(inner, shape[1:], loss)
        for step in steps_of(inner):
            chain.take(step)
        return chain.finish()
    except Obstacle as obstacle:
        return str(obstacle)
    except Exception as error:  # Models are any program; what goes wrong in them is no error of the recording.
        return f"the model cannot be followed ({type(error).__name__}: {error})"
