"""Runs and searches on Amazon SageMaker: config to request, files to S3, S3 to files, and what a job runs."""
