"""Composition only: the command line and the agent."""
