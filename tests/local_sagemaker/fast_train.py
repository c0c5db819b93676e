"""In place of AWS's training toolkit, whose imports take seconds: the same variables, exit codes and failure file."""

import json
import os
import subprocess
import sys
from pathlib import Path


def parsed(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text


base = Path(os.environ["SAGEMAKER_BASE_DIR"])
configs = {path.stem: json.loads(path.read_text()) for path in (base / "input/config").glob("*.json")}
settings = {name: parsed(text) for name, text in configs["hyperparameters"].items()}
channels = {f"SM_CHANNEL_{name.upper()}": str(base / "input/data" / name) for name in configs["inputdataconfig"]}
variables = {
    "SM_HPS": json.dumps({name: value for name, value in settings.items() if not name.startswith(("sagemaker_", "_"))}),
    "SM_MODEL_DIR": str(base / "model"),
    "SM_OUTPUT_DIR": str(base / "output"),
    "SM_OUTPUT_DATA_DIR": str(base / "output/data"),
    "SM_HOSTS": json.dumps(configs["resourceconfig"]["hosts"]),
    "SM_CURRENT_HOST": configs["resourceconfig"]["current_host"],
}
program = [sys.executable, str(settings["sagemaker_program"])]
code = subprocess.run(program, cwd=base / "code", env={**os.environ, **channels, **variables}, check=False).returncode
if code:
    failure = base / "output/failure"
    if not failure.exists():
        failure.write_text(f"ExecuteUserScriptError:\nExitCode {code}")
    sys.exit(1)
