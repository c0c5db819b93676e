"""The networks of timm, as `Architecture` wants them; imported only where model.library=timm."""

import importlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches

import timm
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.constants import CONFIG_NAME, PYTORCH_WEIGHTS_NAME, SAFETENSORS_SINGLE_FILE
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import logging as hub_logging
from timm.data.config import resolve_data_config
from timm.models import PretrainedCfg
from torch import nn

from dogbreeds.data.transform import Transform
from dogbreeds.errors import ConfigError
from dogbreeds.model.backbones.architecture import NOT_STATED, Preset, State, wrong_size
from dogbreeds.model.backbones.timm_stages import stages_of

_MAX_MATCHES = 5


class TimmNetwork:
    """Any network that timm has. Its name may end in a dot and the tag of its weights, which are the default then."""

    def __init__(self, name: str) -> None:
        if not timm.is_model(name):
            close = get_close_matches(name.partition(".")[0], timm.list_models(), _MAX_MATCHES)
            hint = f"Did you mean {', '.join(close)}?" if close else "timm.list_models() lists them."
            raise ConfigError(f"model.backbone={name}: timm {timm.__version__} has no such network. {hint}")
        self.name = name
        self._plain, _, self._tag = name.partition(".")
        if self._tag and self._tag not in self.named_weights():
            said = f"model.backbone={name}: timm has no such weights of {self._plain}."
            raise ConfigError(f"{said} Use one of {', '.join(self.named_weights())}, or none.")

    def named_weights(self) -> list[str]:
        return [found.partition(".")[2] for found in timm.list_pretrained(f"{self._plain}.*")]

    def preset(self, weights: str) -> Preset:
        config = _config(self._with(weights))
        found = resolve_data_config(pretrained_cfg=config.to_dict())
        _, height, width = found["input_size"]
        if height != width:
            said = f"model.backbone={self.name} takes images of {width} x {height} pixels:"
            raise ConfigError(f"{said} use a square one.")
        # Photos keep their proportions, whatever timm's `crop_mode`.
        transform = Transform(
            resize=int(height / found["crop_pct"]),
            crop=height,
            interpolation=found["interpolation"],
            mean=tuple(found["mean"]),
            std=tuple(found["std"]),
        )
        return Preset(config.tag or "", config.license or NOT_STATED, transform)

    def _with(self, weights: str) -> str:
        return f"{self._plain}.{weights}" if weights in self.named_weights() else self.name

    def create(self, side: int) -> nn.Module:
        # In memory: some networks have tables that no state dict holds.
        return self.create_random(side)

    def create_random(self, side: int) -> nn.Module:
        config = _config(self.name)
        own = config.input_size[-1]
        if side == own or not config.fixed_input_size:
            return timm.create_model(self.name, num_classes=0)
        try:
            return timm.create_model(self.name, num_classes=0, img_size=side)
        except (TypeError, AssertionError, ValueError, RuntimeError) as error:
            raise wrong_size(self.name, side, own) from error

    def classifier(self, model: nn.Module) -> tuple[str, ...]:
        named = _config(self.name).classifier
        return (named,) if isinstance(named, str) else tuple(named or ())

    def stages(self, model: nn.Module, pool: str, side: int) -> nn.Sequential:
        return stages_of(model, self._plain, pool, side)

    def download(self, weights: str) -> State:
        name = self._with(weights)
        with _quiet_hub():
            _check_hub(_config(name).hf_hub_id)
            return timm.create_model(name, pretrained=True).state_dict()

    def source(self, weights: str) -> tuple[str, str]:
        return f"https://huggingface.co/timm/{self._plain}.{self.preset(weights).weights}", ""

    def adapted(self, state: State, model: nn.Module) -> State:
        # Each family of timm translates older names and resizes position embeddings by a function of this name.
        family = importlib.import_module(timm.model_entrypoint(self._plain).__module__)
        translate = getattr(family, "checkpoint_filter_fn", None)
        return state if translate is None else translate(dict(state), model)


def _config(name: str) -> PretrainedCfg:
    """What timm knows of weights; a few networks have none, and take what is usual."""
    return timm.get_pretrained_cfg(name) or PretrainedCfg()


def _check_hub(repository: str | None) -> None:
    """Asks once whether the hub can be reached, where it is needed: its client would try for most of a minute."""
    files = (SAFETENSORS_SINGLE_FILE, PYTORCH_WEIGHTS_NAME)
    if repository is None or any(isinstance(try_to_load_from_cache(repository, one), str) for one in files):
        return
    # A hub that answers can be reached; what it refuses comes up again in the download.
    with suppress(HfHubHTTPError):
        get_hf_file_metadata(hf_hub_url(repository, CONFIG_NAME))


@contextmanager
def _quiet_hub() -> Iterator[None]:
    """Keeps warnings of the hub's client off the screen: what matters of them is in the error."""
    before = hub_logging.get_verbosity()
    hub_logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        hub_logging.set_verbosity(before)
