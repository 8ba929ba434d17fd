"""Findings and changes become ranked suspects with a probability, or "cannot tell"."""
