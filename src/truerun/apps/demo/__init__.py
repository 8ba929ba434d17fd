"""The demo: a real training project goes wrong the way projects do, and is brought back. Everything is computed, nothing prepared."""
