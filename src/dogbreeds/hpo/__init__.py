"""Hyperparameter searches: one space, written in Hydra's override grammar, for this machine and for SageMaker."""
