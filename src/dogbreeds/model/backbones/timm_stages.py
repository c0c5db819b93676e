"""One way to cut any network of timm into named stages, without knowing its architecture.

`forward_features` calls the children of a network. Where the last of these calls form a chain, each child taking the
very tensor that the one before returned, running these children one after the other is the same as running the
network, so it can be cut between them. What comes before the chain is left to the network's own `forward_features`,
and the pooling to its own `forward_head`.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import chain, dropwhile, takewhile
from typing import Any

import torch
from torch import Tensor, nn

from dogbreeds.errors import ConfigError
from dogbreeds.model.backbones.architecture import outline

#: The only stage of a network that cannot be cut.
WHOLE = "network"
# Children of these names hold layers one by one; each becomes a stage.
_LISTS = {"blocks": "block", "stages": "stage", "layers": "layer", "features": "layer"}


def stages_of(model: nn.Module, name: str, pool: str, side: int) -> nn.Sequential:
    """Returns a network of timm, without its classifying layer, as named stages that share its weights.

    A network that cannot be cut becomes a single stage. Its pooling is `head`, or `token+mean` for the class token
    and the mean of the patch tokens, as DINOv2's linear protocol takes them (Oquab et al., arXiv 2304.07193).

    Raises:
        ConfigError: There are no class token and patch tokens.
    """
    if pool != "head" and (problem := _token_problem(model, side)):
        raise ConfigError(f"model.pool={pool}: {name} {problem}. Use model.pool=head.")
    parts = _Parts.of(model, side)
    if parts is None:
        return nn.Sequential(OrderedDict([(WHOLE, _Whole(model, name, pool))]))
    stages: dict[str, nn.Module] = {"stem": _Features(model, name, without=parts.all_but(parts.stem))}
    for child in parts.stages:
        stages |= dict(_expanded(child, model.get_submodule(child)))
    head = _shell(model, without=parts.all_but(parts.head), tensors=False)
    stages["pool"] = Pooled(model, pool, parts.trailing, head)
    return nn.Sequential(OrderedDict(stages))


def _token_problem(model: nn.Module, side: int) -> str | None:
    """Why the class token and the patch tokens cannot be told apart; None where they can."""
    if getattr(model, "cls_token", None) is None:
        return "has no class token"
    prefix = getattr(model, "num_prefix_tokens", None)
    if prefix is None:
        return "does not say which of its tokens belong to patches"
    found = outline(model).eval().forward_features(torch.empty(1, 3, side, side, device="meta"))
    if not isinstance(found, Tensor) or found.ndim != 3 or found.shape[1] <= prefix:
        return "returns no tokens of patches"
    return None


@dataclass(frozen=True)
class _Parts:
    """Names of the children of a network, by what they belong to.

    Attributes:
        stem: What `forward_features` uses before the stages.
        stages: A chain of children that have layers of their own.
        trailing: The rest of the chain.
        head: What `forward_head` uses.
    """

    children: Collection[str]
    stem: Collection[str]
    stages: list[str]
    trailing: list[str]
    head: Collection[str]

    def all_but(self, kept: Collection[str]) -> list[str]:
        return [child for child in self.children if child not in kept]

    @classmethod
    def of(cls, model: nn.Module, side: int) -> _Parts | None:
        """Watches an outline of the network compute; None where it cannot be cut."""
        shapes = outline(model).eval()
        children = dict(shapes.named_children())
        with _Watch(shapes) as features:
            result = shapes.forward_features(torch.empty(1, 3, side, side, device="meta"))
        with _Watch(shapes) as head:
            shapes.forward_head(result, pre_logits=True)
        chained = features.chain(result)
        weighted = {name for name, child in children.items() if child.state_dict()}
        # Nothing inside a single layer has weights.
        single = [name for name, one in children.items() if not any("." in own for own, _ in one.named_parameters())]
        leading = list(takewhile(single.__contains__, chained))
        trailing = list(takewhile(single.__contains__, reversed(chained[len(leading) :])))[::-1]
        stages = chained[len(leading) : len(chained) - len(trailing)]
        before = (features.used - set(chained) | set(leading)) & weighted
        if len(stages) > 1 and not before and not any(True for _ in shapes.parameters(recurse=False)):
            # Nothing else embeds the images.
            stages = list(dropwhile(single.__contains__, stages[1:]))
        # Each weight has one place, and none is used that nobody saw being used.
        if not stages or features.used & head.used & weighted or weighted - features.used - head.used:
            return None
        weightless = set(children) - weighted
        stem = (features.used | weightless) - {*stages, *trailing}
        return cls(children, stem, stages, trailing, head.used | weightless)


class _Watch:
    """Notes the calls of all modules of a network while it is open."""

    def __init__(self, network: nn.Module) -> None:
        self._network = network
        self._calls: list[tuple[str, tuple[Any, ...], dict[str, Any], Any]] = []

    def __enter__(self) -> _Watch:
        self._hooks = [
            module.register_forward_hook(self._noting(name), with_kwargs=True)
            for name, module in self._network.named_modules()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _noting(self, name: str) -> Any:
        def note(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], result: Any) -> None:
            self._calls.append((name, arguments, named, result))

        return note

    @property
    def used(self) -> set[str]:
        """Children that were called, or something in them."""
        return {name.partition(".")[0] for name, *_ in self._calls}

    def chain(self, result: Any) -> list[str]:
        """Returns the children that, one after the other and nothing between them, made the result."""
        children = {name for name, _ in self._network.named_children()}
        found: list[str] = []
        for name, arguments, named, made in reversed([call for call in self._calls if call[0] in children]):
            if made is not result or len(arguments) != 1 or named or name in found:
                break
            found.insert(0, name)
            (result,) = arguments
        return found


def _expanded(name: str, child: nn.Module) -> Iterable[tuple[str, nn.Module]]:
    if name in _LISTS and isinstance(child, nn.Sequential) and type(child).forward is nn.Sequential.forward:
        return [(f"{_LISTS[name]}{number}", item) for number, item in enumerate(child)]
    return [(name, child)]


def _shell(model: nn.Module, without: Iterable[str], *, tensors: bool = True) -> Any:
    """Returns a copy of a network that shares its children and weights.

    The children `without` are replaced by nothing; with `tensors` it keeps the weights that belong to no child.
    """
    own = chain(model.parameters(recurse=False), model.buffers(recurse=False), model.children())
    shell = copy.deepcopy(model, {id(one): one for one in own})
    for name in without:
        setattr(shell, name, nn.Identity())
    if not tensors:
        for name, _ in [*shell.named_parameters(recurse=False), *shell.named_buffers(recurse=False)]:
            setattr(shell, name, None)
    return shell


class _Features(nn.Module):
    """The `forward_features` of a network; what it calls may be left out at the end."""

    def __init__(self, model: nn.Module, name: str, without: Iterable[str]) -> None:
        super().__init__()
        self.model = _shell(model, without)
        #: What distinguishes networks of the same weights; see `fingerprint`.
        self.variant = f"timm {name}"

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.model.forward_features(images)
        return features


class _Whole(nn.Module):
    """A network that cannot be cut."""

    def __init__(self, model: nn.Module, name: str, pool: str) -> None:
        super().__init__()
        self.features = _Features(model, name, without=())
        self.tokens = None if pool == "head" else Pooled(model, pool, (), None)

    def forward(self, images: Tensor) -> Tensor:
        found = self.features(images)
        pooled: Tensor = self.tokens(found) if self.tokens else self.features.model.forward_head(found, pre_logits=True)
        return pooled


class Pooled(nn.Module):
    """What follows the stages: the trailing layers and the pooling, to vectors (N, width)."""

    def __init__(self, model: nn.Module, pool: str, trailing: Iterable[str], head: Any) -> None:
        super().__init__()
        self.layers = nn.Sequential(OrderedDict((name, model.get_submodule(name)) for name in trailing))
        self.variant = pool
        self.model = head if pool == "head" else None
        self._prefix = 0 if pool == "head" else int(model.num_prefix_tokens)  # type: ignore[arg-type]

    def forward(self, found: Tensor) -> Tensor:
        return self.pool(self.layers(found))

    def pool(self, features: Tensor) -> Tensor:
        """Returns the vectors of what the trailing layers made."""
        if self.model is not None:
            return self.model.forward_head(features, pre_logits=True)  # type: ignore[no-any-return]
        return torch.cat([features[:, 0], features[:, self._prefix :].mean(dim=1)], dim=1)
