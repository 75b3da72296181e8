"""The commands, one a module, each with a click command named `command`.

A body parses, makes one call into the library, and shows what came back. What decides, computes or writes
belongs to the library, and so do checks of values that the library would make anyway.
"""
