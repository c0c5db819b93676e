"""The smdebug hook: a Lightning callback that writes tensors for the managed rules of SageMaker Debugger."""

import atexit
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from dogbreeds.debug.hook_settings import LOSS, check_smdebug, new_hook
from dogbreeds.model.classifier import BreedClassifier


class SmdebugHook(pl.Callback):
    """Hands losses, weights, biases and gradients of tail and head to smdebug, in modes TRAIN and EVAL.

    A step of smdebug is a forward pass: an optimizer step in mode TRAIN, a validation batch in mode EVAL, both
    counted from 0. Where a job supplies a configuration of the hook, that one decides what is saved, when and where.
    Otherwise the arguments do, as `new_hook` says. A resumed run continues to count from its checkpoint, in the same
    directory.
    """

    def __init__(self, out_dir: Path, train_every: int, eval_every: int) -> None:
        self._out_dir, self._train_every, self._eval_every = out_dir, train_every, eval_every
        self._hook: Any = None
        self._handles: list[RemovableHandle] = []
        self._steps: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        return {mode.name: step for mode, step in self._hook.mode_steps.items()} if self._hook else self._steps

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._steps = state_dict

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        check_smdebug()
        from smdebug.pytorch import modes

        module, every = cast(BreedClassifier, pl_module), (self._train_every, self._eval_every)
        relus = any(isinstance(part, nn.ReLU) for part in module.head.modules())
        self._hook = new_hook(self._out_dir, *every, relus=relus, resumed=bool(self._steps))
        self._hook._make_numpy_array = _as_array
        self._hook.mode_steps.update({modes[mode]: step for mode, step in self._steps.items()})
        self._hook.step = self._hook.mode_steps[modes.GLOBAL]
        self._register(module)

    def _register(self, module: BreedClassifier) -> None:
        """Has the hook called by tail, head and loss.

        smdebug's own `register_module` keeps no handles, so what it registers would outlive the run; and it would
        call each ReLU by its number in the head, where rules look for `relu`.
        """
        hook, trained = self._hook, _Trained(module)
        # The tail, empty or not, is called once in each forward pass. Under DDP Lightning calls the whole module
        # once more around each.
        begun = module.tail.register_forward_pre_hook(lambda _, given: hook.forward_pre_hook(trained, given))
        self._handles.append(begun)
        for path, part in trained.named_modules():
            # A ReLU is called so, where its path does not say it.
            named = isinstance(part, nn.ReLU) and "relu" not in path.rpartition(".")[2]
            if path:
                self._listen(part, f"{path}.relu" if named else path)
        self._listen(module.loss, LOSS)
        for path, parameter in trained.named_parameters():
            if parameter.requires_grad:
                self._handles.append(parameter.register_hook(hook.backward_hook(f"{trained._get_name()}_{path}")))

    def _listen(self, part: nn.Module, name: str) -> None:
        named, hook = SimpleNamespace(_module_name=name), self._hook
        ended = part.register_forward_hook(lambda _, given, returned: hook.forward_hook(named, given, returned))
        self._handles.append(ended)

    def on_train_start(self, *args: Any, **kwargs: Any) -> None:
        self._set_mode("TRAIN")

    on_validation_end = on_train_start

    def on_validation_start(self, *_: Any) -> None:
        self._set_mode("EVAL")

    def _set_mode(self, name: str) -> None:
        from smdebug.pytorch import modes

        if self._hook is not None:
            self._hook.set_mode(modes[name])

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, *_: Any) -> None:
        """Gives the loss of a validation batch the name of the training loss: it comes from no module."""
        if self._hook is not None:
            self._hook.record_tensor_value(LOSS, outputs)

    def on_fit_end(self, *args: Any, **kwargs: Any) -> None:
        """Ends the hook, so that nothing of it is left for the next run of this process."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        if self._hook is None:
            return
        from smdebug.pytorch import del_hook

        self._steps = self.state_dict()
        self._hook.close()
        # It would close once more at the end of the process, and make its directory anew where that is gone.
        atexit.unregister(self._hook._cleanup)
        del_hook()
        self._hook = None

    on_exception = on_fit_end


class _Trained(nn.Module):
    """Tail and head under the name of the whole, which smdebug puts before the names of parameters."""

    def __init__(self, whole: BreedClassifier) -> None:
        super().__init__()
        self.tail, self.head = whole.tail, whole.head
        self._module_name = type(whole).__name__

    def _get_name(self) -> str:
        return self._module_name


def _as_array(value: Any) -> Any:
    """Returns a tensor as NumPy has it, which knows no bfloat16: activations under autocast become float32."""
    if not isinstance(value, Tensor):
        return np.asarray(value)
    value = value.detach().cpu()
    return (value.float() if value.dtype == torch.bfloat16 else value).numpy()
