"""`watch` for trainers that have the loop: a callback for Lightning, and one for the Hugging Face `Trainer`.

Each is made of its library's own class when it is first asked for, so that neither library is needed by the package.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taylorscope._watch import Scope
    from taylorscope.results import Run

__all__ = ["LightningCallback", "TrainerCallback"]


class _Watching:
    """What both callbacks share: the settings of `watch`, the scope while training goes on, and the run after it."""

    def __init__(self, out: Any = None, *, analyse: bool = True, **settings: Any) -> None:
        super().__init__()
        self.out, self.analyse, self.settings = out, analyse, settings
        self.scope: Scope | None = None
        self.run: Run | None = None

    def begin(self, model: Any, optimizer: Any, criterion: Any) -> None:
        from taylorscope._watch import watch

        self.scope = watch(model, optimizer, criterion, self.out, **self.settings)

    def end(self) -> None:
        if self.scope is not None and not self.scope._closed:
            self.run = self.scope.close(self.analyse)

    def break_off(self) -> None:
        if self.scope is not None and not self.scope._closed:
            self.scope.close(analyse=False)


@functools.cache
def _lightning() -> type:
    try:
        from lightning.pytorch import Callback
    except ModuleNotFoundError:
        from pytorch_lightning import Callback

    class LightningCallback(_Watching, Callback):  # type: ignore[misc]
        """Records a training of Lightning: `Trainer(callbacks=[ts.callbacks.LightningCallback("runs/mine", network="net", criterion="loss")])`.

        `network` and `criterion` are names of attributes of the `LightningModule`: the module that `training_step` calls on the inputs, and
        the loss module. All else is for `ts.watch`. After training `callback.run` is the analysis.
        """

        def __init__(self, out: Any = None, *, network: str, criterion: str, **settings: Any) -> None:
            super().__init__(out, **settings)
            self.network, self.criterion = network, criterion

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            if len(trainer.optimizers) != 1:
                raise ValueError(f"the module has {len(trainer.optimizers)} optimizers; call ts.watch with the one whose steps are the rounds")
            self.begin(_attribute(pl_module, self.network), trainer.optimizers[0], _attribute(pl_module, self.criterion))

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            self.end()

        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            self.break_off()

    return LightningCallback


@functools.cache
def _transformers() -> type:
    from transformers import TrainerCallback as Base

    class TrainerCallback(_Watching, Base):  # type: ignore[misc]
        """Records a training of the Hugging Face `Trainer`: `Trainer(..., callbacks=[ts.callbacks.TrainerCallback("runs/mine")])`.

        The loss is the one that the model computes from `labels`. After training `callback.run` is the analysis.
        """

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, optimizer: Any = None, **others: Any) -> None:
            self.begin(model, optimizer, None)

        def on_train_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
            self.end()

    return TrainerCallback


def _attribute(module: Any, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), module)


def __getattr__(name: str) -> Any:
    if name == "LightningCallback":
        return _lightning()
    if name == "TrainerCallback":
        return _transformers()
    raise AttributeError(f"module 'taylorscope.callbacks' has no attribute {name!r}")
