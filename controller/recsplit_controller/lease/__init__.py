"""Who may act: one controller at a time, by a lock of this machine or by a Lease of Kubernetes."""
