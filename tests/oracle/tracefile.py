"""Reads a version-1 trace with numpy alone."""

import json
import struct
from pathlib import Path

import numpy as np

DTYPES = {"F32": "<f4", "F64": "<f8"}


class BadTrace(Exception):
    pass


def read_safetensors(path):
    """The tensors of a safetensors file, memory-mapped."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    raw = np.memmap(path, np.uint8, "r", offset=8 + length)
    tensors = {}
    for name, entry in header.items():
        if entry["dtype"] not in DTYPES:
            raise BadTrace(f"{path}: {name} has type {entry['dtype']}, expected F32 or F64")
        start, end = entry["data_offsets"]
        tensors[name] = raw[start:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class Trace:
    """A recorded run of a dense network. Round n = 1..N has weights `state(n - 1)` before its update.

    `dense` lists the index of each dense layer in the layer list, `units[k]` names what follows it
    ("relu", "leaky_relu", "abs"; None for a linear output).
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        if self.manifest["format"] != 1:
            raise BadTrace(f"{folder}: format {self.manifest['format']}, expected 1")
        self.loss, self.target = self.manifest["loss"], self.manifest["target"]
        self.batches = np.load(folder / "batches.npy")
        self.rounds = len(self.batches)
        self._read_layers(self.manifest["layers"])
        self._read_data()
        self.shards = [read_safetensors(p) for p in sorted(folder.glob("weights-*.safetensors"))]
        self.starts = np.cumsum([0] + [len(s[f"{self.dense[0]}.weight"]) for s in self.shards])
        self.states = int(self.starts[-1])
        self.single = any(t.dtype == np.float32 for t in self.shards[0].values())
        self._check()

    def _read_layers(self, layers):
        self.dense, self.units = [], []
        for index, layer in enumerate(layers):
            if isinstance(layer, dict) and set(layer) == {"dense"}:
                self.dense.append(index)
                self.units.append(None)
            elif layer in ("relu", "leaky_relu", "abs") and self.dense and self.units[-1] is None:
                self.units[-1] = layer
            elif layer != "flatten":
                raise BadTrace(f"{self.folder}: layer {index} is {layer}; the oracle knows dense networks only")
        if not self.dense or self.units[-1] is not None or None in self.units[:-1]:
            raise BadTrace(f"{self.folder}: expected rectifiers between dense layers and a linear output")

    def _read_data(self):
        path = self.folder / "inputs.npy"
        if not path.exists():
            raise BadTrace(f"{path} is missing; the oracle cannot fetch a dataset by name")
        inputs = np.load(path).astype(np.float64)
        self.inputs = inputs.reshape(len(inputs), -1)
        if self.target == "input":
            self.targets = self.inputs
            return
        self.targets = np.load(self.folder / "targets.npy")
        outputs = self.manifest["layers"][self.dense[-1]]["dense"]
        if self.targets.ndim == 1:
            self.targets = np.eye(outputs)[self.targets.astype(int)]
        self.targets = self.targets.astype(np.float64)

    def _check(self):
        shape = (self.manifest["rounds"], self.manifest["batch_size"])
        if self.batches.shape != shape:
            raise BadTrace(f"{self.folder}: batches.npy has shape {self.batches.shape}, manifest says {shape}")
        if self.batches.min() < 0 or self.batches.max() >= len(self.inputs):
            raise BadTrace(f"{self.folder}: batches.npy names rows outside 0..{len(self.inputs)}")
        if self.states not in (self.rounds, self.rounds + 1):
            raise BadTrace(f"{self.folder}: {self.states} weight states for {self.rounds} rounds")

    def state(self, index):
        """The layers' [W b] matrices in float64, before update `index` (0-based)."""
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        tensors, row = self.shards[shard], index - self.starts[shard]
        layers = []
        for layer in self.dense:
            weight, bias = tensors[f"{layer}.weight"][row], tensors[f"{layer}.bias"][row]
            layers.append(np.column_stack([weight, bias]).astype(np.float64))
        return layers

    def batch(self, index):
        rows = self.batches[index]
        return self.inputs[rows], self.targets[rows]
