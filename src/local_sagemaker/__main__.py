"""Run the service by itself: python -m local_sagemaker."""

import math
import signal
import sys
import threading
from argparse import ArgumentParser, Namespace
from pathlib import Path

from platformdirs import user_cache_path

from local_sagemaker.calls import LocalSageMakerError
from local_sagemaker.client import REGION, running, stop
from local_sagemaker.faults import Faults
from local_sagemaker.service import LocalSageMaker


def main(arguments: Namespace) -> None:
    """Serves until it is told to end, or nobody has asked anything for long."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    directory: Path = arguments.directory.resolve()
    with LocalSageMaker(directory, Faults()) as local:
        if not arguments.quiet:
            print(_introduction(local, arguments.idle_minutes), flush=True)
        while not ended.wait(1.0) and not local.is_idle(60 * arguments.idle_minutes) and directory.exists():
            pass


def _introduction(local: LocalSageMaker, idle_minutes: float) -> str:
    idle = "" if math.isinf(idle_minutes) else f", or after {idle_minutes:g} idle minutes"
    text = Path(__file__).with_name("introduction.txt").read_text(encoding="utf-8").rstrip()
    return text.format(local=local, idle=idle, region=REGION)


if __name__ == "__main__":
    parser = ArgumentParser("python -m local_sagemaker", description=__doc__)
    parser.add_argument("--directory", type=Path, default=user_cache_path("local_sagemaker"), help="its files")
    parser.add_argument("--idle-minutes", type=float, default=math.inf, help="end after so long without a request")
    parser.add_argument("--quiet", action="store_true", help="print no key")
    parser.add_argument("--list", action="store_true", help="show which run")
    parser.add_argument("--stop", action="store_true", help="end the one of --directory")
    given = parser.parse_args()
    try:
        if given.list:
            print("\n".join(f"{pid}  {place}" for pid, place in running()) or "None runs.")
        elif given.stop:
            print("Stopped." if stop(given.directory) else f"None runs in {given.directory}.")
        else:
            main(given)
    except LocalSageMakerError as error:
        sys.exit(str(error))
