"""The world: files, keys, clocks, databases, processes, PyTorch."""
