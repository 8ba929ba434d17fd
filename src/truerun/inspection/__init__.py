"""An artifact at rest becomes findings."""
