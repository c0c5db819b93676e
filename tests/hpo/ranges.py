"""What the notebooks of the two replaced systems asked of the service."""

from __future__ import annotations

from typing import Any

_LEARNING_RATE = {"Name": "lr", "MinValue": "0.001", "MaxValue": "0.1", "ScalingType": "Auto"}

RESNET50: dict[str, list[dict[str, Any]]] = {
    "ContinuousParameterRanges": [_LEARNING_RATE],
    "CategoricalParameterRanges": [{"Name": "batch_size", "Values": ["128", "256", "512"]}],
    "IntegerParameterRanges": [],
}
VGG16: dict[str, list[dict[str, Any]]] = {
    "ContinuousParameterRanges": [_LEARNING_RATE],
    "CategoricalParameterRanges": [
        {"Name": "batch_size", "Values": ["128", "256"]},
        {"Name": "epochs", "Values": ["5", "7", "10"]},
    ],
    "IntegerParameterRanges": [],
}
