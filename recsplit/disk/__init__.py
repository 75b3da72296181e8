"""The file system: whole files, folders exchanged at once, locks, sizes in words. Not here: what lies in the files."""
