"""The durable feature store: what the frozen trunk has computed, for every later epoch, run, trial and process."""
