"""Rules about the project's own source."""
