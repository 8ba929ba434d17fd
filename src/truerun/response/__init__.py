"""A decision becomes a consequence: recovery, quarantine, incident, impact, gap, report."""
