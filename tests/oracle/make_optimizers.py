"""Writes tests/data/optimizers.json: PyTorch's optimizers on a tiny ReLU network, in float64.

A test replays `gradients[k]` (step k + 1) from `initial` and compares with `weights["1"]`, `["2"]`, ...; or it
trains the network itself on `batches` and compares `losses` and `gradients` as well. Vectors of weights and
gradients are flat: 0.weight row by row, 0.bias, 2.weight, 2.bias. `replays` are further optimizers fed with the
gradients of the optimizer named in `gradients_of`, whatever their own weights are.

    python tests/oracle/make_optimizers.py
"""

import json
from pathlib import Path

import torch

STEPS, KEPT = 50, (1, 2, 3, 10, 50)
SIZES, BATCH = (5, 4, 2), 4

OPTIMIZERS = [
    ("sgd", {"learning_rate": 0.1}, lambda w: torch.optim.SGD(w, lr=0.1)),
    ("momentum", {"learning_rate": 0.05, "momentum": 0.9}, lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9)),
    (
        "nesterov",
        {"learning_rate": 0.05, "momentum": 0.9},
        lambda w: torch.optim.SGD(w, lr=0.05, momentum=0.9, nesterov=True),
    ),
    (
        "rmsprop",
        {"learning_rate": 0.01, "smoothing": 0.99, "epsilon": 1e-8},
        lambda w: torch.optim.RMSprop(w, lr=0.01),
    ),
    (
        "adam",
        {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        lambda w: torch.optim.Adam(w, lr=0.01),
    ),
]

REPLAYS = [
    (
        "rmsprop",
        {"learning_rate": 0.001, "smoothing": 0.9, "epsilon": 1e-8},
        lambda w: torch.optim.RMSprop(w, lr=0.001, alpha=0.9),
    ),
    ("adagrad", {"learning_rate": 0.01, "epsilon": 1e-10}, lambda w: torch.optim.Adagrad(w, lr=0.01)),
]


def network():
    inputs, hidden, outputs = SIZES
    layers = (torch.nn.Linear(inputs, hidden), torch.nn.ReLU(), torch.nn.Linear(hidden, outputs))
    return torch.nn.Sequential(*layers)


def flat(tensors):
    return torch.cat([t.detach().reshape(-1) for t in tensors]).tolist()


def train(make, initial, inputs, targets, batches):
    net = network()
    torch.nn.utils.vector_to_parameters(torch.tensor(initial), net.parameters())
    weights = list(net.parameters())
    optimizer = make(weights)
    losses, gradients, kept = [], [], {}
    for step, rows in enumerate(batches, 1):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(inputs[rows]), targets[rows])
        loss.backward()
        losses.append(loss.item())
        gradients.append(flat(w.grad for w in weights))
        optimizer.step()
        if step in KEPT:
            kept[str(step)] = flat(weights)
    return {"losses": losses, "gradients": gradients, "weights": kept}


def replay(make, initial, gradients):
    weights = torch.tensor(initial, requires_grad=True)
    optimizer = make([weights])
    kept = {}
    for step, gradient in enumerate(gradients, 1):
        weights.grad = torch.tensor(gradient)
        optimizer.step()
        if step in KEPT:
            kept[str(step)] = weights.tolist()
    return {"weights": kept}


def main():
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    initial = flat(network().parameters())
    inputs, targets = torch.randn(12, SIZES[0]), torch.randn(12, SIZES[-1])
    batches = [torch.randperm(len(inputs))[:BATCH].tolist() for _ in range(STEPS)]
    trained = [
        {"name": name, **options, **train(make, initial, inputs, targets, batches)}
        for name, options, make in OPTIMIZERS
    ]
    sgd = trained[0]["gradients"]
    replayed = [
        {"name": name, **options, "gradients_of": "sgd", **replay(make, initial, sgd)}
        for name, options, make in REPLAYS
    ]
    table = {
        "made_with": f"torch {torch.__version__}",
        "sizes": SIZES,
        "unit": "relu",
        "loss": "mse",
        "inputs": inputs.tolist(),
        "targets": targets.tolist(),
        "batches": batches,
        "initial": initial,
        "optimizers": trained,
        "replays": replayed,
    }
    path = Path(__file__).parents[1] / "data" / "optimizers.json"
    path.write_text(json.dumps(table, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
