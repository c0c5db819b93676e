"""The container images of AWS that jobs run in, looked up without the network."""

import logging
import re

from packaging.version import Version

from dogbreeds.errors import ConfigError
from dogbreeds.schema import SagemakerConfig, VariantConfig
from local_sagemaker.rules.instances import why_not_run

#: AWS's two lines of PyTorch images: the newer has 2.11 and later, the older up to 2.10.
FRAMEWORKS = ("pytorch-amzn2023", "pytorch")
# The oldest PyTorch that this project runs on.
_OLDEST = Version("2.10")


def training_image(sagemaker: SagemakerConfig, instance: str) -> str:
    """Returns the image that a job on an instance runs in: one's own, or AWS's PyTorch, with CUDA for a GPU.

    Raises:
        ConfigError: AWS has no such image, or it cannot run there.
    """
    if sagemaker.image is not None:
        return sagemaker.image
    framework, version = sagemaker.framework, sagemaker.framework_version
    if framework not in FRAMEWORKS:
        raise ConfigError(f"sagemaker.framework={framework}: must be one of {', '.join(FRAMEWORKS)}.")
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version) or Version(version) < _OLDEST:
        raise ConfigError(f"sagemaker.framework_version={version}: must be a version of PyTorch, {_OLDEST} or later.")
    if why := why_not_run(instance):
        taken = "take ml.g5.xlarge or ml.m5.xlarge, or name an image of your own (sagemaker.image)"
        raise ConfigError(f"An instance {instance} {why}: {taken}.")
    asked = f"sagemaker.framework={framework} sagemaker.framework_version={version} on {instance}"
    chosen = {"version": version, "instance_type": instance, "image_scope": "training"}
    return _retrieve(asked, framework, str(sagemaker.region), **chosen)


def serving_image(variant: VariantConfig, region: str) -> str:
    """Returns the image that an endpoint runs in: one's own, or AWS's of Ray Serve, with CUDA for a GPU.

    Raises:
        ConfigError: AWS has no such image, or it cannot run there.
    """
    if variant.image is not None:
        return variant.image
    # Serverless endpoints have the processors of this one.
    instance = variant.instance or "ml.m5.xlarge"
    if why := why_not_run(instance):
        raise ConfigError(f"variant.instance={instance} {why}: take ml.m5.xlarge, or ml.g5.xlarge for a GPU.")
    asked = f"variant.serving_version={variant.serving_version} on variant.instance={instance}"
    version = variant.serving_version
    return _retrieve(asked, "ray-serve", region, version=version, instance_type=instance, image_scope="inference")


def rules_image(region: str) -> str:
    """Returns the image that SageMaker Debugger's own rules run in."""
    return _retrieve("debugger.managed (debugger=aws)", "debugger", region)


def _retrieve(asked: str, framework: str, region: str, **chosen: str) -> str:
    # Takes seconds to import, which other commands have no use for, and tells what it ignores.
    from sagemaker.core import image_uris

    logging.getLogger(image_uris.__name__).setLevel(logging.WARNING)
    try:
        return str(image_uris.retrieve(framework, region, **chosen))
    except ValueError as error:
        said = f"AWS has no such image, as far as the installed sagemaker knows ({error})"
        raise ConfigError(f"{asked}, sagemaker.region={region}: {said}") from error
