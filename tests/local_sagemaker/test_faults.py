from __future__ import annotations

from botocore.config import Config

from tests.local_sagemaker.conftest import Begin
from tests.local_sagemaker.jobs import BUCKET, refusal, training_job

CODE = f"s3://{BUCKET}/code/sourcedir.tar.gz"
HOOK = {"DebugHookConfig": {"S3OutputPath": f"s3://{BUCKET}/jobs"}}


def test_a_name_is_taken_once(begin: Begin) -> None:
    sagemaker = begin().client("sagemaker")
    sagemaker.create_training_job(**training_job("twice", CODE))
    assert refusal(sagemaker.create_training_job, **training_job("twice", CODE))[0] == "ResourceInUse"


def test_throttling_ends_after_as_many_calls(begin: Begin) -> None:
    local = begin(throttled={"ListModels": 2})
    once = local.session().client("sagemaker", config=Config(retries={"max_attempts": 0}))
    assert refusal(once.list_models) == ("ThrottlingException", "Rate exceeded")
    assert refusal(once.list_models)[0] == "ThrottlingException"
    assert once.list_models()["Models"] == []


def test_debugger_can_be_closed_to_the_account(begin: Begin) -> None:
    sagemaker = begin(debugger_closed=True).client("sagemaker")
    code, said = refusal(sagemaker.create_training_job, **training_job("job", CODE, **HOOK))
    assert code == "ValidationException" and said.startswith("DebugHookConfig: SageMaker Debugger is not available")
    sagemaker.create_training_job(**training_job("job", CODE, ProfilerConfig={"DisableProfiler": True}))
