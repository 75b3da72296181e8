"""What the controller's parts hand to each other: settings, observations, decisions, records. Frozen, and nothing is done here."""
