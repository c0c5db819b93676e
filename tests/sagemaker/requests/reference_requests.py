"""What the two replaced systems asked of SageMaker Debugger, as their SDK rendered it in us-east-1."""

from __future__ import annotations

from typing import Any

RULES_IMAGE = "503895931360.dkr.ecr.us-east-1.amazonaws.com/sagemaker-debugger-rules:latest"

DEBUG_RULES: dict[str, dict[str, str]] = {
    "LossNotDecreasing": {"rule_to_invoke": "LossNotDecreasing"},
    "Overfit": {"rule_to_invoke": "Overfit"},
    "Overtraining": {"rule_to_invoke": "Overtraining"},
    "PoorWeightInitialization": {"rule_to_invoke": "PoorWeightInitialization"},
}
PROFILER_RULES: dict[str, dict[str, str]] = {
    "LowGPUUtilization": {
        "rule_to_invoke": "LowGPUUtilization",
        "threshold_p95": "70",
        "threshold_p5": "10",
        "window": "500",
        "patience": "1000",
        "scan_interval_us": "60000000",
    },
    "ProfilerReport": {"rule_to_invoke": "ProfilerReport"},
}
COLLECTIONS: dict[str, dict[str, str]] = {
    "CrossEntropyLoss_output_0": {
        "include_regex": "CrossEntropyLoss_output_0",
        "train.save_interval": "10",
        "eval.save_interval": "1",
    },
    "losses": {"save_interval": "500"},
    "relu_input": {"include_regex": ".*relu_input", "save_interval": "500"},
}
PROFILER_MILLISECONDS = 500


def rules(configurations: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The parameters of rules by name; all of them run in the rules' image."""
    assert {rule["RuleEvaluatorImage"] for rule in configurations} == {RULES_IMAGE}
    return {rule["RuleConfigurationName"]: rule["RuleParameters"] for rule in configurations}
