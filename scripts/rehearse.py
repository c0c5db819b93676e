"""Rehearse a model's whole life on SageMaker, without an account: python scripts/rehearse.py."""

from dogbreeds.commands import rehearse

if __name__ == "__main__":
    rehearse()
