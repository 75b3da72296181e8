"""How much is needed: workloads, profiles, the simulator, and the papers' algorithms on them. Arithmetic only; measuring is not here."""
