"""The digits classifier."""
