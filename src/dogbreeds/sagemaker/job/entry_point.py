"""The script that AWS's toolkit starts in a job: `sagemaker_program` is the path of this file.

The code of a job is unpacked, not installed: the directory of the packages takes the place of the script's own on
the module path.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[3])

from dogbreeds.sagemaker.job.main import main  # noqa: E402

if __name__ == "__main__":
    main()
