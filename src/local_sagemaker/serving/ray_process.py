"""The first process of a container that serves by Ray: run as a file, it starts Ray and ends with its standard input.

It sees the code of an archive in place of this project's, so it imports nothing of it.
"""

import os
import shutil
import signal
import sys
import threading
import time
import traceback
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

import psutil

# Ray takes a third of the memory otherwise; photos and answers pass through it only where they are large.
_OBJECT_STORE_BYTES = 128 << 20
_LOOK_SECONDS = 0.25
# Given in place of an application.
_END = "end"


def main(arguments: Namespace) -> None:
    """Serves until nobody holds the other end of standard input, or the application turns out to be broken."""
    watcher = threading.Thread(target=_end_with_input, args=(arguments.directory,), daemon=True)
    watcher.start()
    # Takes seconds, which the process that starts this one does not have.
    import ray
    from ray import serve
    from ray.serve.scripts import run

    ray.init(
        num_gpus=arguments.gpus,
        include_dashboard=False,
        namespace="serve",
        object_store_memory=_OBJECT_STORE_BYTES,
        _temp_dir=str(arguments.directory),
        _node_ip_address="127.0.0.1",
    )
    try:
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": arguments.port})
        run.main([arguments.application, "--non-blocking"], standalone_mode=False)
        _wait_until_running()
    except Exception as error:
        traceback.print_exc()
        sys.exit(f"ERROR: {arguments.application} cannot be served: {error!r}")
    arguments.running.touch()
    watcher.join()


def kill_session(leader: int) -> None:
    """Kills the processes of a session but this one, until those are gone that were just being started."""
    while found := [process for process in psutil.pids() if process != os.getpid() and _lives_in(leader, process)]:
        for process in found:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _lives_in(session: int, process: int) -> bool:
    try:
        return os.getsid(process) == session and psutil.Process(process).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False


def _wait_until_running() -> None:
    from ray import serve
    from ray.serve.schema import ApplicationStatus

    while True:
        applications = serve.status().applications
        for name, application in applications.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                raise RuntimeError(f"{name}: {application.message}")
        if applications and all(one.status == ApplicationStatus.RUNNING for one in applications.values()):
            return
        time.sleep(_LOOK_SECONDS)


def _end_with_input(directory: Path) -> None:
    sys.stdin.read()
    # Whoever started this was killed. Threads of Ray would end this process before it has tidied up: they go first.
    os.execv(sys.executable, [sys.executable, "-P", __file__, _END, str(directory)])


def _end(directory: Path) -> None:
    kill_session(os.getsid(0))
    shutil.rmtree(directory)


if __name__ == "__main__":
    if sys.argv[1] == _END:
        _end(Path(sys.argv[2]))
        sys.exit()
    parser = ArgumentParser()
    parser.add_argument("application", help="config.yaml")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True, help="where Ray puts its sockets and logs")
    parser.add_argument("--running", type=Path, required=True, help="a file that is made when all replicas are there")
    parser.add_argument("--gpus", type=int, help="that many, whatever the machine has")
    main(parser.parse_args())
