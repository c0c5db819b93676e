"""Build the report of a run again, or compare runs: python scripts/report.py run=<run> or runs=<run>,<run>."""

from dogbreeds.commands import report

if __name__ == "__main__":
    report()
