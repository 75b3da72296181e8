"""A server that stays up: started again where it ends, its dead instances replaced."""
