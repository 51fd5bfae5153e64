"""Writes tests/data/passes.json: PyTorch's losses, gradients and curvatures of tiny dense networks, in float64.

Every case has its kinks: some pre-activations are exactly 0, in f32 as well as in f64. Weights, inputs and targets
are f32 numbers, so that an f32 program starts from the same values. Per dense layer, in the order of the forward pass:

- `weight` [out, in], `bias` [out], and the loss's gradients with respect to them;
- `pre` [batch, out], the pre-activations;
- `backward` [batch, out], `d l_i / d pre`, and `curvature` [batch, out], `q = diag(J' H J)`, both for the loss of one
  input (not divided by the batch).

    python tests/oracle/make_passes.py
"""

import json
from pathlib import Path

import torch
from torch.nn import functional

UNITS = {"relu": functional.relu, "leaky_relu": functional.leaky_relu, "abs": torch.abs}
SHAPES = [((4, 5, 4, 3), 4), ((3, 6, 2), 5), ((2, 3, 3, 3, 4), 1)]


def rounded(tensor):
    return tensor.float().double()


def layers_with_kinks(sizes, inputs):
    """Random layers; unit 0 of the first is 0 on the first input, the last unit of every hidden layer is 0 on all."""
    layers = []
    for fan_in, fan_out in zip(sizes, sizes[1:]):
        weight = rounded(torch.randn(fan_out, fan_in) / fan_in**0.5)
        layers.append((weight, rounded(0.1 * torch.randn(fan_out))))
    for weight, bias in layers[:-1]:
        weight[-1], bias[-1] = 0.0, 0.0
    weight, bias = layers[0]
    weight[0] = torch.tensor([1.0, -1.0, 0.5, 2.0])[: sizes[0]]
    bias[0] = -(weight[0] @ inputs[0])  # eighths times powers of two: exact
    return layers


def forward(layers, unit, x):
    pre = []
    for weight, bias in layers:
        pre.append(x @ weight.T + bias)
        x = unit(pre[-1])
    return pre


def losses(kind, outputs, targets):
    """The loss of each input."""
    if kind == "mse":
        return ((outputs - targets) ** 2).mean(1)
    return functional.cross_entropy(outputs, targets, reduction="none")


def hessian(kind, output):
    if kind == "mse":
        return 2.0 / len(output) * torch.eye(len(output))
    p = torch.softmax(output, 0)
    return torch.diag(p) - torch.outer(p, p)


def curvatures(kind, pre):
    """`q` by automatic differentiation of every output with respect to every pre-activation."""
    outputs = pre[-1].detach()
    result = []
    for a in pre:
        rows = [torch.autograd.grad(f.sum(), a, retain_graph=True)[0] for f in pre[-1].T]
        jacobian = torch.stack(rows, 1)  # [batch, outputs, units]
        h = torch.stack([hessian(kind, f) for f in outputs])
        result.append(torch.einsum("ioa,iop,ipa->ia", jacobian, h, jacobian))
    return result


def case(name, kind, sizes, batch):
    inputs = torch.randint(-8, 9, (batch, sizes[0])) / 8.0
    targets = rounded(torch.randn(batch, sizes[-1])) if kind == "mse" else torch.randint(sizes[-1], (batch,))
    layers = [(w.requires_grad_(), b.requires_grad_()) for w, b in layers_with_kinks(sizes, inputs)]
    pre = forward(layers, UNITS[name], inputs)
    each = losses(kind, pre[-1], targets)
    loss = each.mean()
    gradients = torch.autograd.grad(loss, [t for layer in layers for t in layer], retain_graph=True)
    backward = torch.autograd.grad(each.sum(), pre, retain_graph=True)
    curvature = curvatures(kind, pre)
    kinks = sum((a == 0).sum().item() for a in pre[:-1])
    assert kinks > batch, "the case should have kinks"
    return {
        "unit": name,
        "loss_name": kind,
        "sizes": sizes,
        "inputs": inputs.tolist(),
        "targets": targets.tolist(),
        "loss": loss.item(),
        "losses": each.tolist(),
        "kinks": kinks,
        "layers": [
            {
                "weight": weight.tolist(),
                "bias": bias.tolist(),
                "pre": pre[l].tolist(),
                "weight_gradient": gradients[2 * l].tolist(),
                "bias_gradient": gradients[2 * l + 1].tolist(),
                "backward": backward[l].tolist(),
                "curvature": curvature[l].tolist(),
            }
            for l, (weight, bias) in enumerate(layers)
        ],
    }


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    cases = [
        case(name, kind, sizes, batch) for name in UNITS for kind in ("mse", "cross_entropy") for sizes, batch in SHAPES
    ]
    table = {"made_with": f"torch {torch.__version__}", "cases": cases}
    path = Path(__file__).parents[1] / "data" / "passes.json"
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes, {len(cases)} cases")


if __name__ == "__main__":
    main()
