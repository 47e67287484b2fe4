"""What a calling application installs: buckets, requests, retries, outcomes. Standard library only."""

from serinus.client.bucket import BUCKETS, bucket_header, bucket_of
from serinus.client.client import Client, Refused, Unreachable

__all__ = ["BUCKETS", "Client", "Refused", "Unreachable", "bucket_header", "bucket_of"]
