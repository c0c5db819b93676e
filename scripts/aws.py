"""Prepare an AWS account for jobs, or leave nothing of it: python scripts/aws.py action=setup."""

from dogbreeds.commands import aws

if __name__ == "__main__":
    aws()
