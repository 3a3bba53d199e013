"""The command: the server process, its listeners, workers and signals."""
