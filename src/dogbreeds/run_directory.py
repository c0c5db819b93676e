"""The names of all files in a run directory and in a multirun directory."""

# --- a run
RUN_CONFIG = "config.yaml"
METRICS = "metrics.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
RULES = "rules.json"
#: Every file of data.dir: its split and class, or why it is left out.
INDEX = "index.csv"
#: Photos worth a look.
AUDIT = "audit.csv"
#: Copies of what these settings of `data` name, so that a resumed run has the same photos.
KEPT = {"exclude": "excluded.csv", "labels": "labels.csv"}
REPORT = "report.html"
CHECKPOINTS = "checkpoints"
#: The model package, and the same as an archive.
MODEL = "model"
MODEL_ARCHIVE = "model.tar.gz"

RECORD = "debugger/record.jsonl"
FACTS = "debugger/facts.json"
TENSORS = "debugger/smdebug"

SYSTEM = "profiler/system.jsonl"
STEPS = "profiler/steps.jsonl"
PHASES = "profiler/phases.jsonl"
OPERATORS = "profiler/operators.json"
TRACE = "profiler/trace.json.gz"

#: Held by the process that writes a run or a search.
LOCK = ".lock"
#: All that lies in a run directory, but for logs.
RUN_NAMES = {
    *(RUN_CONFIG, METRICS, HISTORY, PREDICTIONS, RULES, INDEX, AUDIT, REPORT, CHECKPOINTS, MODEL),
    *KEPT.values(),
    *(MODEL_ARCHIVE, "debugger", "profiler", "tensorboard", "csv", "wandb", LOCK),
}

# --- a trial of a search, which is a run directory in the multirun directory
#: What the trial trained, until the best trial gets a package.
HEAD = "head.safetensors"
#: The traceback of a trial that failed unexpectedly.
ERROR = "error.txt"

# --- a search
BEST = "best.yaml"
LEADERBOARD = "leaderboard.csv"
SEARCH_CONFIG = "search.yaml"
SEARCH_PAGE = "search.html"
#: Names the photos and weights of all trials.
START = "start.json"
#: Optuna's journal.
STORAGE = "optuna.log"
#: Names the tuning job that a multirun directory belongs to.
TUNING_JOB = "tuning_job.json"
