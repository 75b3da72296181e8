"""How often each row of each table is read: counted in traces, kept in one file."""
