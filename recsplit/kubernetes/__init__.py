"""A build on Kubernetes: what runs on which servers, its manifests as text, checked, and written as a kustomize base with overlays.

*Not here:* talking to a cluster, and anything secret: credentials are named, never read.
"""
