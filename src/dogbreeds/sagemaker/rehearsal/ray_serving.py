"""The first process of a container that serves by Ray: run as a file, it starts Ray and ends with its standard input.

It sees the code of an archive in place of this project's, so it imports nothing of it.
"""

from __future__ import annotations

import select
import shutil
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

import ray
from ray import serve
from ray.serve.schema import ApplicationStatus
from ray.serve.scripts import run

# Ray takes a third of the memory otherwise; photos and answers pass through it only where they are large.
_OBJECT_STORE_BYTES = 128 << 20
_LOOK_SECONDS = 0.25


def main(arguments: Namespace) -> int:
    """Serves until nobody holds the other end of standard input, and returns the exit code."""
    ray.init(
        num_gpus=arguments.gpus,
        include_dashboard=False,
        namespace="serve",
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=arguments.directory,
        _node_ip_address="127.0.0.1",
    )
    serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": arguments.port})
    run.main([arguments.application, "--non-blocking"], standalone_mode=False)
    while not _abandoned():
        for name, application in serve.status().applications.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                print(f"ERROR: Ray Serve could not deploy {name}: {application.message}", flush=True)
                return 1
            if application.status == ApplicationStatus.RUNNING:
                arguments.running.touch()
                sys.stdin.read()
                return 0
    return 0


def _abandoned() -> bool:
    readable, _, _ = select.select([sys.stdin], [], [], _LOOK_SECONDS)
    return bool(readable)


if __name__ == "__main__":
    parser = ArgumentParser()
    parser.add_argument("application", help="config.yaml, or module:application")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", required=True, help="where Ray puts its sockets and logs")
    parser.add_argument("--running", type=Path, required=True, help="a file that is made when all replicas are there")
    parser.add_argument("--gpus", type=int, help="that many, whatever the machine has")
    given = parser.parse_args()
    code = main(given)
    ray.shutdown()
    # Nobody else is left to do it, where whoever started this was killed.
    shutil.rmtree(given.directory, ignore_errors=True)
    sys.exit(code)
