"""What surrounds the core: the loop with its clock, the journal and its replay, metrics, health, logs."""
