"""What the toolkit starts in a job: `sagemaker_program` is the path of this file.

The code of a job is unpacked and not installed, and a script's own directory is the first place where Python looks
for modules: here the directory that has the packages takes its place.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

from dogbreeds.sagemaker.job.main import main  # noqa: E402

if __name__ == "__main__":
    main()
