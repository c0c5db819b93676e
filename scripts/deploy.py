"""Serve a model on SageMaker: python scripts/deploy.py package=<run directory> endpoint=<name>."""

from dogbreeds.commands import deploy

if __name__ == "__main__":
    deploy()
