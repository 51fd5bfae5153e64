"""Models as layer lists, and what stands in the way."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conftest import ConvNet, mlp
from torch import nn

from taylorscope.convert import Converted, layers_of


def test_networks_as_people_write_them():
    found = layers_of(mlp(), [5, 1, 8, 8], "cross_entropy")
    assert isinstance(found, Converted)
    assert (found.layers, found.input) == ([{"dense": 12}, "relu", {"dense": 4}], [64])
    found = layers_of(ConvNet(), [5, 1, 8, 8], "cross_entropy")
    assert isinstance(found, Converted)
    conv = {"kernel": 3, "padding": 1, "stride": 1}
    pool = {"max_pool": {"size": 2, "stride": 2}}
    assert found.layers == [
        {"conv": {"maps": 3, **conv}}, "relu", pool, {"conv": {"maps": 4, **conv, "bias": False}}, "relu", pool, "flatten",
        {"dense": 8}, "relu", {"dense": 4},
    ]  # fmt: skip
    assert found.parameters["7.weight"] == "fc1.weight" and "3.bias" not in found.parameters and found.input is None


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 5), nn.Linear(5, 3)


def two(forward):
    """Two layers with this forward pass."""
    return type("Spelled", (Two,), {"forward": forward})()


def spelled(forward, loss="cross_entropy", shape=(4, 6)):
    return layers_of(two(forward), list(shape), loss)


@pytest.mark.parametrize(
    ("forward", "middle"),
    [
        (lambda self, x: self.b(F.relu(self.a(x))), "relu"),
        (lambda self, x: self.b(torch.relu(self.a(x))), "relu"),
        (lambda self, x: self.b(self.a(x).relu()), "relu"),
        (lambda self, x: self.b(F.leaky_relu(self.a(x), 0.2)), {"leaky_relu": 0.2}),
        (lambda self, x: self.b(F.leaky_relu(self.a(x))), {"leaky_relu": 0.01}),
        (lambda self, x: self.b(torch.abs(self.a(x))), "abs"),
        (lambda self, x: self.b(F.relu(F.linear(x, self.a.weight, self.a.bias))), "relu"),
        (lambda self, x: self.b(F.dropout(F.relu(self.a(x)), 0.5, training=False)), "relu"),
        (lambda self, x: self.b(F.relu(self.a(x.view(x.shape[0], -1)))), "relu"),
        (lambda self, x: self.b(F.relu(self.a(torch.flatten(x, 1)))), "relu"),
        (lambda self, x, mask=None: self.b(F.relu(self.a(x)) if mask is None else x), "relu"),
    ],
)
def test_spellings_of_one_network(forward, middle):
    found = spelled(forward)
    assert isinstance(found, Converted), found
    assert found.layers == [{"dense": 5}, middle, {"dense": 3}]
    assert found.parameters == {"0.weight": "a.weight", "0.bias": "a.bias", "2.weight": "b.weight", "2.bias": "b.bias"}


def test_log_softmax_and_its_loss_are_cross_entropy():
    def forward(self, x):
        return F.log_softmax(self.b(self.a(x).relu()), dim=1)

    found = spelled(forward, "nll")
    assert isinstance(found, Converted) and found.loss == "cross_entropy"
    assert "log_softmax" in spelled(forward, "mse")


def words(model, *expected, shape=(4, 6)):
    found = layers_of(model, list(shape), "mse")
    assert isinstance(found, str), found
    for word in expected:
        assert word in found, found


def behind(*modules):
    return nn.Sequential(nn.Linear(6, 5), *modules, nn.Linear(5, 3))


def test_what_stands_in_the_way_is_named():
    words(behind(nn.BatchNorm1d(5), nn.ReLU()), "1 (BatchNorm1d)", "normalizes over the minibatch")
    words(behind(nn.GELU()), "1 (GELU)")
    words(behind(nn.Dropout(0.5)), "1 (Dropout)", "p = 0.5")
    words(behind(nn.ReLU(), nn.ReLU()), "2 (ReLU)", "directly behind")
    words(nn.Sequential(nn.Linear(6, 5), nn.ReLU()), "ends in relu")
    words(nn.Sequential(nn.Conv2d(1, 2, (3, 1)), nn.Flatten(), nn.Linear(2, 2)), "3 x 1", shape=(4, 1, 3, 1))
    words(nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.Flatten(), nn.Linear(2, 2)), "groups 2", shape=(4, 2, 3, 3))
    words(nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 2)), "1 (MaxPool2d)", "leaves out", shape=(4, 1, 7, 7))
    words(nn.Linear(6, 3), "along the last axis", shape=(4, 2, 6))

    tied = behind(nn.ReLU())
    tied[2] = nn.Linear(6, 5)
    tied[2].weight = tied[0].weight
    words(tied, "2.weight and 0.weight are one tensor")

    def forward(self, x):
        return self.b((h := self.a(x)) + h.relu())

    words(two(forward), "a sum of two values", "test_convert.py, line")
    words(two(lambda self, x: self.b(self.a(x) + self.a(x))), "a of a value that is not the last one")
    def forward(self, x):
        return self.b(torch.tanh(self.a(x)))

    words(two(forward), "tanh", "test_convert.py, line")
    twice = nn.Linear(6, 6)
    words(nn.Sequential(twice, nn.ReLU(), twice), "2.weight and 0.weight are one tensor")


def test_dropout_that_does_nothing_is_left_out():
    assert isinstance(layers_of(behind(nn.Dropout(0.0), nn.ReLU()), [4, 6], "mse"), Converted)
    model = behind(nn.Dropout(0.5), nn.ReLU()).eval()
    assert isinstance(layers_of(model, [4, 6], "mse"), Converted)
