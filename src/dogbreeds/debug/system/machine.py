"""Processors, memory, disks, network and this run's processes, by psutil."""

import time
from contextlib import suppress

import psutil

from dogbreeds.debug.measurements import Sample
from dogbreeds.debug.system.gpus import Gpus

# New child processes are found by listing all processes of the machine, which may be thousands on a server: as often
# as this share of one core allows.
_SEARCH_SHARE = 0.003


class Machine:
    """Samples the machine, each time since the previous sample; all samples must be taken by the thread that made it.

    Memory is that of the whole machine, also in a container whose control group allows less. Where disks lie on other
    disks, as with LVM, the operating system counts their bytes on each of them. `sampled` is when the last sample was
    taken, in seconds of `time.monotonic`.
    """

    def __init__(self, gpus: Gpus) -> None:
        self._gpus, self._processes = gpus, ProcessTree(psutil.Process())
        self._loopback = {name for name, card in psutil.net_if_stats().items() if "loopback" in card.flags.split(",")}
        # psutil gives percentages of the time since its last call in the same thread.
        psutil.cpu_percent(percpu=True)
        psutil.cpu_times_percent()
        self._processes.read()
        self._before = self._traffic()
        self.sampled = time.monotonic()

    def sample(self) -> Sample:
        cores = psutil.cpu_percent(percpu=True)
        io_wait = getattr(psutil.cpu_times_percent(), "iowait", 0.0)
        seconds_used, own_memory = self._processes.read()
        traffic, now = self._traffic(), time.monotonic()
        elapsed = now - self.sampled
        # A disk or a network card that was removed takes its bytes with it.
        rates = {name: round(max(0, total - self._before[name]) / elapsed) for name, total in traffic.items()}
        self._before, self.sampled = traffic, now
        memory = psutil.virtual_memory()
        return Sample(
            at=round(time.time(), 3),
            cpu=round(sum(cores) / len(cores), 1),
            cores=tuple(cores),
            io_wait=io_wait,
            memory=memory.percent,
            memory_used=memory.used,
            **rates,
            own_cpu=round(100 * seconds_used / elapsed, 1),
            own_memory=own_memory,
            gpus=self._gpus.read(),
        )

    def _traffic(self) -> dict[str, int]:
        """Returns bytes from and to the disks and the network since the machine was started."""
        try:
            disks = psutil.disk_io_counters()
        except NotImplementedError:  # Some sandboxes hide the disks.
            disks = None
        cards = psutil.net_io_counters(pernic=True)
        outside = [card for name, card in cards.items() if name not in self._loopback]
        return {
            "read": disks.read_bytes if disks else 0,
            "written": disks.write_bytes if disks else 0,
            "received": sum(card.bytes_recv for card in outside),
            "sent": sum(card.bytes_sent for card in outside),
        }


class ProcessTree:
    """A process and all its descendants.

    A new descendant counts from the search that finds it: at the next reading on most machines, some seconds later
    where there are thousands of processes. Memory that processes share counts for each of them.
    """

    def __init__(self, root: psutil.Process) -> None:
        self._seconds: dict[psutil.Process, float | None] = {root: None}
        self._known: set[int] = {root.pid}
        self._search_due = 0.0

    def read(self) -> tuple[float, int]:
        """Returns the processor seconds used since the previous reading, and the bytes of memory in use."""
        if time.monotonic() >= self._search_due:
            self._search()
        used, memory = 0.0, 0
        for process, before in list(self._seconds.items()):
            try:
                with process.oneshot():
                    times, resident = process.cpu_times(), process.memory_info().rss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                del self._seconds[process]
                continue
            seconds = times.user + times.system
            used += seconds - before if before is not None else 0.0
            memory += resident
            self._seconds[process] = seconds
        return used, memory

    def _search(self) -> None:
        """Adds new descendants.

        Only processes that are new on the machine are looked at. `psutil.Process.children` reads a file of every
        process each time, and before each a busy Python thread may keep the interpreter for 5 ms.
        """
        began = time.thread_time()
        pids = set(psutil.pids())
        parents = {}
        for pid in pids - self._known:
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                process = psutil.Process(pid)
                parents[process] = process.ppid()
        self._known = pids
        tree = {process.pid for process in self._seconds}
        while found := [process for process, parent in parents.items() if parent in tree]:
            tree = {process.pid for process in found}
            for process in found:
                self._seconds[process] = None
                del parents[process]
        self._search_due = time.monotonic() + (time.thread_time() - began) / _SEARCH_SHARE
