"""What a build costs on this machine: each sub-model and the whole, measured on a server of its own."""
