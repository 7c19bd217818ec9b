"""What a worker has counted, as prometheus_client would show it."""

import orjson
from prometheus_client import CollectorRegistry

from server.http.metrics import Metrics
from server.metrics_endpoint import _Families
from server.metrics_merge import decode


def registry(metrics: Metrics) -> CollectorRegistry:
    """All that stands in the metrics at this moment."""
    for table in metrics._tables:
        for values in table.stale():
            table.refresh(values)
    found = CollectorRegistry()
    found.register(_Families(decode(orjson.dumps([table.whole() for table in metrics._tables]))))
    return found
