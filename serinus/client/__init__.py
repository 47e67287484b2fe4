"""What a calling application installs: buckets, requests, retries, outcomes. Standard library only."""

from serinus.client.bucket import BUCKETS, bucket_header, bucket_of
from serinus.client.client import Client, Refused, Unreachable
from serinus.client.routes import RoutedClient, RouteFile, RouteTable
from serinus.client.written import written_id

__all__ = [
    "BUCKETS",
    "Client",
    "Refused",
    "RouteFile",
    "RouteTable",
    "RoutedClient",
    "Unreachable",
    "bucket_header",
    "bucket_of",
    "written_id",
]
