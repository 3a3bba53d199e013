"""The command: the process that serves, its listeners, workers and signals."""
