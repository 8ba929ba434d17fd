"""A run in motion becomes findings: pure numpy on small arrays that adapters hand over."""
