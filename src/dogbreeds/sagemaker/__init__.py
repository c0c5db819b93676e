"""Runs of this project on Amazon SageMaker: the same run somewhere else."""
