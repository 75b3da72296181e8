"""What acts on servers: Triton in place, and a dry run. Each is an Actuator; none decides anything."""
