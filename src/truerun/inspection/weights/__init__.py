"""Rules about model checkpoints at rest. Nothing here loads one."""
