"""Rules about what a model puts out."""
