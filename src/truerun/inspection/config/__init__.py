"""Rules about what a run is told to do: configuration keys, the command line and environment variables."""
