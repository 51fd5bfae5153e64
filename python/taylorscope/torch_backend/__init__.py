"""Any differentiable model, on any device: Taylor optima and regret by products on torch.

- `analysis`: the whole; `replay`: the first pass; `products` and `derivatives`: what the search calls; `team`: processes that share the rounds
- `model`: a model as a function; `losses`; `units`: modules, neurons and their weights; `rounds`: states and minibatches on the device
- `activations`: configurations of rectifiers; `tuning`: how passes are done; `progress`
"""

from taylorscope.torch_backend.analysis import analyze
from taylorscope.torch_backend.model import ModelError

__all__ = ["ModelError", "analyze"]
