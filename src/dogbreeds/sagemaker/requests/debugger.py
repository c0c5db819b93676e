"""What a training job asks of SageMaker Debugger itself, in accounts that have it (debugger=aws)."""

from collections.abc import Mapping
from typing import Any

from dogbreeds.sagemaker.requests.images import rules_image
from dogbreeds.schema import DebuggerConfig

Request = dict[str, Any]


def debugger_members(debugger: DebuggerConfig, output: str, region: str) -> Request:
    """Returns the members of a training job's request that concern Debugger and its profiler.

    Without `debugger.managed` there is one, which switches the profiler off: jobs whose request says nothing may be
    profiled, which the SDK of AWS has always asked for unless told otherwise, and this project measures the machine
    itself. Below the S3 folder `output` the service puts tensors, measurements and findings, by the job's name.

    Raises:
        ConfigError: There is no Debugger in that region.
    """
    managed = debugger.managed
    if managed is None:
        return {"ProfilerConfig": {"DisableProfiler": True}}
    image = rules_image(region)
    return {
        "DebugHookConfig": {
            "S3OutputPath": output,
            "CollectionConfigurations": [
                {"CollectionName": name, "CollectionParameters": _texts(parameters)}
                for name, parameters in managed.collections.items()
                if parameters is not None
            ],
        },
        "DebugRuleConfigurations": _rules(managed.rules, image),
        "ProfilerConfig": {
            "S3OutputPath": output,
            "ProfilingIntervalInMilliseconds": managed.system_milliseconds,
            "DisableProfiler": False,
        },
        "ProfilerRuleConfigurations": _rules(managed.profiler_rules, image),
    }


def _rules(rules: Mapping[str, Any], image: str) -> list[Request]:
    """One configuration for each rule that is not switched off by null."""
    return [
        {
            "RuleConfigurationName": name,
            "RuleEvaluatorImage": image,
            "RuleParameters": {"rule_to_invoke": name, **_texts(parameters)},
        }
        for name, parameters in rules.items()
        if parameters is not None
    ]


def _texts(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Parameters as the service takes them; a null leaves one to the service's own default."""
    return {name: str(value) for name, value in parameters.items() if value is not None}
