"""The file system: whole files, paths exchanged at once, sizes in words. Not here: what lies in the files."""
