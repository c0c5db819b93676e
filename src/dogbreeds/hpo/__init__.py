"""Hyperparameter searches: one space, in Hydra's override grammar, for this machine and for SageMaker."""
