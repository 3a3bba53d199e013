"""Measures the cost of a relayed packet, here and in alternative servers. Run by `bin/bench`."""
