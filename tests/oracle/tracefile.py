"""Reads a version-1 trace with numpy alone."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from linearize import SLOPES, Block, Conv, Pool

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
    """A recorded run. Round n = 1..N has weights `state(n - 1)` before its update.

    `blocks` lists the layers with weights, each with the rectifier and the pool behind it; `indices` are their places in
    the layer list, `pools` those of the max-pools.
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
        self.starts = np.cumsum([0] + [len(s[f"{self.indices[0]}.weight"]) for s in self.shards])
        self.states = int(self.starts[-1])
        self.single = any(t.dtype == np.float32 for t in self.shards[0].values())
        self._check()

    def _read_layers(self, layers):
        self.blocks = []
        for index, layer in enumerate(layers):
            name, value = next(iter(layer.items())) if isinstance(layer, dict) else (layer, None)
            last = self.blocks[-1] if self.blocks else None
            if name == "dense":
                self.blocks.append(Block(index, bias=self._bias(value)))
            elif name == "conv":
                conv = Conv(value["kernel"], value["padding"], value["stride"])
                self.blocks.append(Block(index, conv=conv, bias=self._bias(value)))
            elif name in SLOPES and last and not last.slopes and not last.pool:
                slope = SLOPES[name] if value is None else (value, 1.0, value)
                self.blocks[-1] = replace(last, slopes=slope)
            elif name in ("max_pool", "avg_pool") and last and last.conv and not last.pool:
                size, stride = (value, value) if isinstance(value, int) else (value["size"], value["stride"])
                self.blocks[-1] = replace(last, pool=Pool(name == "max_pool", size, stride))
            elif name != "flatten":
                raise BadTrace(f"{self.folder}: layer {index} is {layer}, which the oracle does not know there")
        if not self.blocks or self.blocks[-1].slopes or self.blocks[-1].conv:
            raise BadTrace(f"{self.folder}: expected a dense, linear output")
        self.indices = [block.index for block in self.blocks]
        self.pools = [i for i, layer in enumerate(layers) if isinstance(layer, dict) and "max_pool" in layer]

    @staticmethod
    def _bias(settings):
        return not isinstance(settings, dict) or settings.get("bias", True)

    def _read_data(self):
        path = self.folder / "inputs.npy"
        if not path.exists():
            raise BadTrace(f"{path} is missing; the oracle cannot fetch a dataset by name")
        inputs = np.load(path).astype(np.float64)
        flat = inputs.reshape(len(inputs), -1)
        image = tuple(self.manifest["input"])
        self.inputs = inputs.reshape(-1, *image) if any(block.conv for block in self.blocks) else flat
        if self.target == "input":
            self.targets = flat
            return
        self.targets = np.load(self.folder / "targets.npy")
        outputs = self.manifest["layers"][self.indices[-1]]["dense"]
        outputs = outputs["units"] if isinstance(outputs, dict) else outputs
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
        """The layers' [W b] matrices, or W without a bias, in float64, before update `index` (0-based). A filter is a row, [channel, row, column]."""
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        tensors, row = self.shards[shard], index - self.starts[shard]
        layers = []
        for block in self.blocks:
            weight = tensors[f"{block.index}.weight"][row]
            columns = [weight.reshape(len(weight), -1)]
            if block.bias:
                columns.append(tensors[f"{block.index}.bias"][row])
            layers.append(np.column_stack(columns).astype(np.float64))
        return layers

    def batch(self, index):
        rows = self.batches[index]
        return self.inputs[rows], self.targets[rows]
