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
    (
        "adamw",
        {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "settings": {"weight_decay": 0.1}},
        lambda w: torch.optim.AdamW(w, lr=0.01, weight_decay=0.1),
    ),
    (
        "rmsprop",
        {"learning_rate": 0.002, "smoothing": 0.95, "epsilon": 1e-6, "settings": {"centered": 1.0}},
        lambda w: torch.optim.RMSprop(w, lr=0.002, alpha=0.95, eps=1e-6, centered=True),
    ),
    (
        "rmsprop",
        {"learning_rate": 0.001, "smoothing": 0.9, "epsilon": 1e-8, "momentum": 0.8},
        lambda w: torch.optim.RMSprop(w, lr=0.001, alpha=0.9, momentum=0.8),
    ),
    (
        "rmsprop",
        {"learning_rate": 0.001, "smoothing": 0.9, "epsilon": 1e-8, "momentum": 0.8, "settings": {"centered": 1.0}},
        lambda w: torch.optim.RMSprop(w, lr=0.001, alpha=0.9, momentum=0.8, centered=True),
    ),
    (
        "rprop",
        {"learning_rate": 0.01, "settings": {"eta_minus": 0.5, "eta_plus": 1.2, "step_min": 1e-6, "step_max": 50.0}},
        lambda w: torch.optim.Rprop(w, lr=0.01),
    ),
    ("sign_sgd", {"learning_rate": 0.003}, lambda w: SignSgd(w, lr=0.003)),
    ("adagrad_full", {"learning_rate": 0.03, "epsilon": 1e-4}, lambda w: NeuronAdaGrad(w, lr=0.03, eps=1e-4)),
    ("sgd", {"learning_rate": 0.1, "schedule": "cosine"}, lambda w: scheduled(w, cosine)),
    ("sgd", {"learning_rate": 0.1, "schedule": "inverse_sqrt"}, lambda w: scheduled(w, lambda n: n**-0.5)),
    ("sgd", {"learning_rate": 0.1, "warmup": 10}, lambda w: scheduled(w, lambda n: min(1.0, n / 10))),
]


class SignSgd(torch.optim.Optimizer):
    """Descent along the sign of the gradient."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                w -= group["lr"] * torch.sign(w.grad)


class NeuronAdaGrad(torch.optim.Optimizer):
    """Full-matrix AdaGrad of each neuron (a row of the weights, with its bias), by way of eigenvalues."""

    def __init__(self, params, lr, eps):
        super().__init__(params, {"lr": lr, "eps": eps})

    @torch.no_grad()
    def step(self):
        (group,) = self.param_groups
        (flat,) = group["params"]
        inputs, hidden, outputs = SIZES
        places, at = [], 0
        for width, units in ((inputs, hidden), (hidden, outputs)):
            for a in range(units):
                row = list(range(at + a * width, at + (a + 1) * width))
                places.append(row + [at + units * width + a])
            at += units * (width + 1)
        for row in places:
            g = flat.grad[row]
            outer = self.state.setdefault(("outer", row[0]), torch.zeros(len(row), len(row)))
            outer += torch.outer(g, g)
            values, vectors = torch.linalg.eigh(outer)
            kept = values > 1e-14 * values.max()
            inverse = torch.where(kept, 1 / (values.clamp(min=0).sqrt() + group["eps"]), torch.zeros_like(values))
            flat[row] -= group["lr"] * vectors @ (inverse * (vectors.T @ g))


class Scheduled(torch.optim.SGD):
    """SGD that steps a scheduler of PyTorch's behind each step."""

    def __init__(self, params, lr, make):
        super().__init__(params, lr=lr)
        self.schedule = make(self)

    def step(self, closure=None):
        super().step(closure)
        self.schedule.step()


def cosine(optimizer):
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=STEPS)


def scheduled(w, shape):
    by_round = lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: shape(k + 1))
    return Scheduled(w, 0.1, shape if shape is cosine else by_round)


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
