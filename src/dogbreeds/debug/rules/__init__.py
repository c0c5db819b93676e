"""The rules of SageMaker Debugger, and some of our own, over the record of a run."""
