"""The file system: whole files, reading within bounds, paths exchanged at once, sizes in words. Not here: what the files are of."""
