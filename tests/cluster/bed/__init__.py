"""The test bed: a real Kubernetes control plane, node, KServe and Envoy Gateway on one machine, without Docker.

Invariant: everything that runs, is mounted or is linked for the bed lives in namespaces of the bed's own, so the end of
one process is the end of all of it.
"""
