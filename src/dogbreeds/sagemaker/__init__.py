"""Runs and searches on Amazon SageMaker: config to requests, files to S3, and back."""
