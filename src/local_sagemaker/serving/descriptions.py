"""The parts of DescribeEndpoint that come from its configuration."""

from collections.abc import Mapping, Sequence
from typing import Any


def described_variants(config: Mapping[str, Any], former: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    variant = config["ProductionVariants"][0]
    found: dict[str, Any] = {"VariantName": variant["VariantName"]}
    if "ServerlessConfig" in variant:
        found |= {f"{when}ServerlessConfig": variant["ServerlessConfig"] for when in ("Current", "Desired")}
    else:
        kept = [one.get("DesiredInstanceCount") for one in former if one["VariantName"] == variant["VariantName"]]
        instances = next(iter(kept), None) or variant["InitialInstanceCount"]
        found |= {"CurrentInstanceCount": instances, "DesiredInstanceCount": instances}
    return [found]


def capture_of(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns those members of a configuration that are members of the endpoint too."""
    found = {name: config[name] for name in ("AsyncInferenceConfig",) if name in config}
    capture = config.get("DataCaptureConfig")
    if capture is not None:
        found["DataCaptureConfig"] = {
            "EnableCapture": capture.get("EnableCapture", True),
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
        }
    return found
