"""The callbacks with the real trainers: `pip install ./python[callbacks,test]`, then `pytest python/tests/test_callbacks.py`."""

from __future__ import annotations

import pytest
import torch
from conftest import mlp
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import taylorscope as ts


def test_lightning(tmp_path, images, recorded):
    lightning = pytest.importorskip("lightning.pytorch")
    x, y = images

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.net, self.loss = mlp(), nn.CrossEntropyLoss()

        def training_step(self, batch):
            return self.loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch):
            self.loss(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), 1e-2)

    callback = ts.callbacks.LightningCallback(tmp_path, network="net", criterion="loss", analyse=False)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", callbacks=[callback], default_root_dir=tmp_path, **quiet)
    loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
    trainer.fit(Module(), loader, DataLoader(TensorDataset(x, y), batch_size=100))
    trace = recorded(callback.scope.trace)
    assert trace["sizes"].tolist() == [64, 64, 64, 8] * 2
    assert trace.manifest["layers"] == [{"dense": 12}, "relu", {"dense": 4}] and trace.manifest["complete"]


def test_transformers(tmp_path, images, recorded):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    x, y = images

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, pixels, labels=None):
            logits = self.net(pixels)
            loss = nn.functional.cross_entropy(logits, labels) if labels is not None else None
            return transformers.modeling_outputs.SequenceClassifierOutput(loss=loss, logits=logits)

    data = [{"pixels": image, "labels": label} for image, label in zip(x, y, strict=True)]
    arguments = transformers.TrainingArguments(
        str(tmp_path / "hf"), num_train_epochs=2, per_device_train_batch_size=32, report_to=[], save_strategy="no", use_cpu=True, disable_tqdm=True
    )
    callback = ts.callbacks.TrainerCallback(tmp_path / "run", analyse=False)
    transformers.Trainer(Model(), arguments, train_dataset=data, callbacks=[callback]).train()
    trace = recorded(callback.scope.trace)
    assert trace["sizes"].tolist() == [32, 32, 32, 32, 32, 32, 8] * 2
    assert trace["inputs.pixels"].shape == (200, 1, 8, 8) and trace.manifest["loss"] == "the model's own loss"
