"""Writes tests/data/convolutions.json: PyTorch's numbers of tiny convolutional networks, in float64.

Weights, inputs and targets are f32 numbers, so that an f32 program starts from the same values. In the cases named "ties" they are
small multiples of 1/4 and the images are constant, so that many values in a pooling window are exactly equal, whatever the order of
summation. Tensors have PyTorch's names and order of axes, as in a state dict of `nn.Sequential`, and are stored flat. Per case:

- `weights`, and the loss's gradients with respect to them; `input_gradient`, the loss's gradient in the inputs;
- `outputs` [batch, outputs], and `tangent`, their derivative along `direction` (in all weights) and `input_tangent` along
  `input_direction`;
- `jacobian`, the derivative of every output of every input in the first filter of the first convolution, [batch, outputs, weights],
  its bias last.

    python tests/oracle/make_convolutions.py
"""

import json
from pathlib import Path

import torch
from torch import nn
from torch.func import functional_call, jacrev, jvp
from torch.nn import functional


def conv(maps, kernel, padding=0, stride=1):
    return {"conv": {"maps": maps, "kernel": kernel, "padding": padding, "stride": stride}}


CASES = [
    ("convolution", [1, 5, 4], [conv(3, 3, 1), "relu", "flatten", {"dense": 2}], 3, "mse"),
    ("max-pool", [2, 4, 4], [conv(3, 3, 1), "relu", {"max_pool": 2}, "flatten", {"dense": 3}], 4, "cross_entropy"),
    (
        "two convolutions",
        [3, 6, 6],
        [conv(4, 3, 1), "leaky_relu", {"max_pool": 2}, conv(3, 2), "abs", "flatten", {"dense": 4}, "relu", {"dense": 3}],
        3,
        "cross_entropy",
    ),
    (
        "strides and means",
        [2, 7, 6],
        [conv(3, 3, 1, 2), "relu", conv(2, 2), {"avg_pool": {"size": 2, "stride": 1}}, "flatten", {"dense": 2}],
        3,
        "mse",
    ),
    (
        "overlapping windows",
        [1, 5, 5],
        [conv(2, 3, 1), "abs", {"max_pool": {"size": 3, "stride": 2}}, "flatten", {"dense": 2}],
        4,
        "mse",
    ),
    ("pool without rectifier", [2, 4, 4], [conv(2, 3, 1), {"max_pool": 2}, "flatten", {"dense": 2}], 3, "mse"),
    ("ties, relu", [2, 6, 6], [conv(3, 3, 1), "relu", {"max_pool": 2}, "flatten", {"dense": 3}], 3, "cross_entropy"),
    ("ties, leaky", [1, 6, 6], [conv(3, 3, 1), "leaky_relu", {"max_pool": 3}, "flatten", {"dense": 2}], 3, "mse"),
    (
        "ties, abs, overlapping",
        [2, 5, 5],
        [conv(3, 3, 1), "abs", {"max_pool": {"size": 3, "stride": 1}}, "flatten", {"dense": 2}],
        3,
        "mse",
    ),
    ("ties, no rectifier", [1, 4, 4], [conv(2, 3, 1), {"max_pool": 2}, "flatten", {"dense": 2}], 2, "mse"),
]


class Abs(nn.Module):
    def forward(self, x):
        return x.abs()


def module(layer, shape):
    if layer == "relu":
        return nn.ReLU()
    if layer == "leaky_relu":
        return nn.LeakyReLU(0.01)
    if layer == "abs":
        return Abs()
    if layer == "flatten":
        return nn.Flatten()
    (kind, value), = layer.items()
    if kind == "dense":
        return nn.Linear(shape[0], value)
    if kind == "conv":
        return nn.Conv2d(shape[0], value["maps"], value["kernel"], value["stride"], value["padding"])
    size, stride = (value["size"], value["stride"]) if isinstance(value, dict) else (value, value)
    return nn.MaxPool2d(size, stride) if kind == "max_pool" else nn.AvgPool2d(size, stride)


def build(shape, layers):
    x, modules = torch.zeros(1, *shape), []
    for layer in layers:
        modules.append(module(layer, x.shape[1:]))
        x = modules[-1](x)
    return nn.Sequential(*modules)


def rounded(tensor):
    return tensor.float().double()


def quarters(*shape):
    return torch.randint(-4, 5, shape) / 4.0


def case(name, shape, layers, batch, kind):
    net = build(shape, layers)
    ties = name.startswith("ties")
    weights = {
        key: quarters(*value.shape) if ties else rounded(value + 0.1 * torch.randn(value.shape))
        for key, value in net.state_dict().items()
    }
    inputs = quarters(batch, shape[0], 1, 1).expand(batch, *shape).clone() if ties else rounded(torch.randn(batch, *shape))
    outputs = net(inputs).shape[1]
    targets = rounded(torch.randn(batch, outputs)) if kind == "mse" else torch.randint(outputs, (batch,))

    def run(weights, inputs):
        return functional_call(net, weights, (inputs,))

    def loss(weights, inputs):
        f = run(weights, inputs)
        return ((f - targets) ** 2).mean() if kind == "mse" else functional.cross_entropy(f, targets)

    leaves = {key: value.clone().requires_grad_() for key, value in weights.items()}
    x = inputs.clone().requires_grad_()
    value = loss(leaves, x)
    gradients = torch.autograd.grad(value, [*leaves.values(), x])
    direction = {key: rounded(torch.randn(value.shape)) for key, value in weights.items()}
    input_direction = rounded(torch.randn(inputs.shape))
    f, tangent = jvp(lambda w: run(w, inputs), (weights,), (direction,))
    _, input_tangent = jvp(lambda x: run(weights, x), (inputs,), (input_direction,))
    rows = jacrev(lambda w: run({**weights, **w}, inputs))({k: weights[k] for k in ("0.weight", "0.bias")})
    jacobian = torch.cat([rows["0.weight"][:, :, 0].flatten(2), rows["0.bias"][:, :, :1]], 2)
    flat = lambda tensors: {key: value.flatten().tolist() for key, value in tensors.items()}
    return {
        "name": name,
        "input": shape,
        "layers": layers,
        "loss_name": kind,
        "inputs": inputs.flatten().tolist(),
        "targets": targets.flatten().tolist(),
        "shapes": {key: list(value.shape) for key, value in weights.items()},
        "weights": flat(weights),
        "loss": value.item(),
        "outputs": f.flatten().tolist(),
        "gradients": flat(dict(zip(leaves, gradients))),
        "input_gradient": gradients[-1].flatten().tolist(),
        "direction": flat(direction),
        "tangent": tangent.flatten().tolist(),
        "input_direction": input_direction.flatten().tolist(),
        "input_tangent": input_tangent.flatten().tolist(),
        "jacobian": jacobian.flatten().tolist(),
    }


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    table = {"made_with": f"torch {torch.__version__}", "cases": [case(*entry) for entry in CASES]}
    path = Path(__file__).parents[1] / "data" / "convolutions.json"
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes, {len(CASES)} cases")


if __name__ == "__main__":
    main()
