"""Trains a small autoencoder in PyTorch and writes a trace that `taylorscope analyze` reads.

    pip install torch numpy safetensors
    python docs/pytorch_trace.py my-trace [inputs.npy]
    taylorscope analyze my-trace

Without `inputs.npy` (an array [examples, features]) the data are points near a random 6-dimensional surface.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

ROUNDS, BATCH, LEARNING_RATE, SHARD = 200, 32, 1e-2, 64


def sample_inputs(examples=500, features=24, seed=0):
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(examples, 6))
    return np.abs(hidden @ rng.normal(size=(6, features))).astype(np.float32) / 4


def main(folder, inputs):
    torch.manual_seed(0)
    features = inputs.shape[1]
    net = torch.nn.Sequential(
        torch.nn.Linear(features, 16), torch.nn.ReLU(),
        torch.nn.Linear(16, 6), torch.nn.ReLU(),
        torch.nn.Linear(6, features),
    )  # fmt: skip
    layers = [{"dense": 16}, "relu", {"dense": 6}, "relu", {"dense": features}]
    x = torch.from_numpy(inputs)
    optimizer = torch.optim.Adam(net.parameters(), lr=LEARNING_RATE)
    batches = np.stack([np.random.default_rng(n).choice(len(x), BATCH, replace=False) for n in range(ROUNDS)])

    def state():
        # Copies, as state_dict() gives references; contiguous, as safetensors wants them.
        return {name: w.detach().clone().contiguous() for name, w in net.state_dict().items()}

    # The trace: the weights before every update and after the last, the rows of each minibatch, and the data.
    states, losses = [], []
    for rows in batches:
        states.append(state())
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(net(x[rows]), x[rows])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    states.append(state())

    folder.mkdir(parents=True, exist_ok=True)
    for shard, start in enumerate(range(0, len(states), SHARD)):
        part = states[start : start + SHARD]
        stacked = {name: torch.stack([state[name] for state in part]) for name in part[0]}
        save_file(stacked, folder / f"weights-{shard:05}.safetensors")
    np.save(folder / "batches.npy", batches)
    np.save(folder / "inputs.npy", inputs)
    np.save(folder / "losses.npy", np.array(losses))  # optional: `analyze` checks its own losses against them
    manifest = {
        "format": 1, "input": [features], "layers": layers, "loss": "mse", "target": "input",
        "rounds": ROUNDS, "batch_size": BATCH,
        "optimizer": {"name": "adam", "learning_rate": LEARNING_RATE}, "data": {"name": "random surface"},
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    print(f"{folder}: {ROUNDS} rounds, loss {losses[0]:.4f} -> {losses[-1]:.4f}")


if __name__ == "__main__":
    if not 2 <= len(sys.argv) <= 3:
        sys.exit(__doc__)
    data = np.load(sys.argv[2]).astype(np.float32) if len(sys.argv) == 3 else sample_inputs()
    main(Path(sys.argv[1]), data)
