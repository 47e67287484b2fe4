"""Answers requests: a data plane without a transport, its exposures, and the KServe front end."""
