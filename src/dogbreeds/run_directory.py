"""The files of a run directory, by their names."""

from __future__ import annotations

RUN_CONFIG = "config.yaml"
METRICS = "metrics.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
RULES = "rules.json"
REPORT = "report.html"
CHECKPOINTS = "checkpoints"

RECORD = "debugger/record.jsonl"
FACTS = "debugger/facts.json"
TENSORS = "debugger/smdebug"

SYSTEM = "profiler/system.jsonl"
STEPS = "profiler/steps.jsonl"
PHASES = "profiler/phases.jsonl"
OPERATORS = "profiler/operators.json"
TRACE = "profiler/trace.json.gz"
BEST = "best.yaml"
LEADERBOARD = "leaderboard.csv"
SEARCH_CONFIG = "search.yaml"
#: Names the tuning job that a multirun directory is of.
TUNING_JOB = "tuning_job.json"
