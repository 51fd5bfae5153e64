"""Reads traces of both formats with numpy alone."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from linearize import SLOPES, Block, Conv, Pool

DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8"} | {"BOOL": "?", "U8": "u1", "I8": "i1", "I16": "<i2", "I32": "<i4", "I64": "<i8"}


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
            raise BadTrace(f"{path}: {name} has type {entry['dtype']}; the oracle reads {', '.join(DTYPES)}")
        start, end = entry["data_offsets"]
        tensors[name] = raw[start:end].view(DTYPES[entry["dtype"]]).reshape(entry["shape"])
    return tensors


class Trace:
    """A recorded run. Round n = 1..N has weights `state(n - 1)` before its update, and the rows `batches[n - 1]`.

    `blocks` lists the layers with weights, each with the rectifier and the pool behind it; `indices` are their places in
    the layer list, `pools` those of the max-pools. `recorded` are the losses that training saw, or None.
    """

    def __init__(self, folder):
        folder = Path(folder)
        self.folder = folder
        self.manifest = json.loads((folder / "manifest.json").read_text())
        if self.manifest["format"] not in (1, 2):
            raise BadTrace(f"{folder}: format {self.manifest['format']}, expected 1 or 2")
        if "layers" not in self.manifest:
            raise BadTrace(f"{folder}: no list of layers ({self.manifest.get('conversion')})")
        self.loss, self.target = self.manifest["loss"], self.manifest["target"]
        self._read_layers(self.manifest["layers"])
        self.parts = Separate(self) if self.manifest["format"] == 1 else Together(self)
        self.batches, self.recorded, self.states = self.parts.batches, self.parts.recorded, self.parts.states
        self.rounds = len(self.batches)
        self._shape_data(self.parts.inputs, self.parts.targets)
        self.single = self.parts.dtype.itemsize < 8
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

    def _shape_data(self, inputs, targets):
        inputs = inputs.astype(np.float64)
        flat = inputs.reshape(len(inputs), -1)
        image = tuple(self.manifest["input"])
        self.inputs = inputs.reshape(-1, *image) if any(block.conv for block in self.blocks) else flat
        if self.target == "input":
            self.targets = flat
            return
        outputs = self.manifest["layers"][self.indices[-1]]["dense"]
        outputs = outputs["units"] if isinstance(outputs, dict) else outputs
        # Values for a network with one output may lack their axis.
        is_class = self.loss == "cross_entropy"
        self.targets = np.eye(outputs)[targets.astype(int)] if is_class else targets.astype(np.float64).reshape(len(targets), -1)

    def _check(self):
        rows = np.concatenate(list(self.batches))
        if rows.min() < 0 or rows.max() >= len(self.inputs):
            raise BadTrace(f"{self.folder}: minibatches name rows outside 0..{len(self.inputs)}")
        if self.states not in (self.rounds, self.rounds + 1):
            raise BadTrace(f"{self.folder}: {self.states} weight states for {self.rounds} rounds")

    def state(self, index):
        """The layers' [W b] matrices, or W without a bias, in float64, before update `index` (0-based). A filter is a row, [channel, row, column]."""
        layers = []
        for block in self.blocks:
            weight = self.parts.tensor(f"{block.index}.weight", index)
            columns = [weight.reshape(len(weight), -1)]
            if block.bias:
                columns.append(self.parts.tensor(f"{block.index}.bias", index))
            layers.append(np.column_stack(columns).astype(np.float64))
        return layers

    def batch(self, index):
        rows = self.batches[index]
        return self.inputs[rows], self.targets[rows]


class Separate:
    """Format 1: weights in shards, everything else in arrays of its own."""

    def __init__(self, trace):
        folder, manifest = trace.folder, trace.manifest
        self.batches = np.load(folder / "batches.npy")
        shape = (manifest["rounds"], manifest["batch_size"])
        if self.batches.shape != shape:
            raise BadTrace(f"{folder}: batches.npy has shape {self.batches.shape}, manifest says {shape}")
        if not (folder / "inputs.npy").exists():
            raise BadTrace(f"{folder / 'inputs.npy'} is missing; the oracle cannot fetch a dataset by name")
        self.inputs = np.load(folder / "inputs.npy")
        self.targets = np.load(folder / "targets.npy") if trace.target != "input" else None
        self.recorded = np.load(folder / "losses.npy") if (folder / "losses.npy").exists() else None
        self.shards = [read_safetensors(p) for p in sorted(folder.glob("weights-*.safetensors"))]
        first = f"{trace.indices[0]}.weight"
        self.starts = np.cumsum([0] + [len(s[first]) for s in self.shards])
        self.states, self.dtype = int(self.starts[-1]), self.shards[0][first].dtype

    def tensor(self, name, index):
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.shards[shard][name][index - self.starts[shard]]


class Together:
    """Format 2: shards with rounds, and with the rows of the data that they are the first to use."""

    def __init__(self, trace):
        folder = trace.folder
        shards = [read_safetensors(p) for p in sorted(folder.glob("shard-*.safetensors"))]
        joined = {name: np.concatenate([s[name] for s in shards if name in s]) for name in ("rounds", "losses", "sizes", "rows")}
        if not np.array_equal(joined["rounds"], np.arange(1, len(joined["rounds"]) + 1)):
            raise BadTrace(f"{folder}: a sample of the rounds; the oracle follows all of them")
        self.batches = np.split(joined["rows"], np.cumsum(joined["sizes"])[:-1])
        self.inputs = np.concatenate([s["inputs"] for s in shards if "inputs" in s])
        self.targets = np.concatenate([s["targets"] for s in shards if "targets" in s]) if trace.target != "input" else None
        self.recorded = joined["losses"]
        self.shards = [s for s in shards if len(s["rounds"])]
        self.starts = np.cumsum([0] + [len(s["rounds"]) for s in self.shards])
        self.names = trace.manifest.get("parameters", {})
        self.final = read_safetensors(folder / "final.safetensors") if (folder / "final.safetensors").exists() else None
        self.states = len(self.batches) + (self.final is not None)
        self.dtype = self.tensor(f"{trace.indices[0]}.weight", 0).dtype

    def tensor(self, name, index):
        key = "state." + self.names.get(name, name)
        if index == len(self.batches):
            return self.final[key]
        shard = int(np.searchsorted(self.starts, index, side="right")) - 1
        return self.shards[shard][key][index - self.starts[shard]]
