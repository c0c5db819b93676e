"""The system sampler: what the machine does while a run lasts, measured from a thread of its own."""
