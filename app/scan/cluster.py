"""The same scan on a Ray cluster: a task for each shard. Needs the extra `ray`, on every node the same `digits`."""

import logging
import os
import socket
from collections.abc import Iterator, Sequence

import ray

from app.errors import ScanError
from app.scan.running import MAX_DEATHS, QUEUED, Done, Job, bounded, scan_shard
from app.scan.shards import Shard

_CONNECT_S = 10
_LEAST = 64  # shards submitted at a time: enough for an autoscaler to see that it needs more nodes


def on_ray(shards: Sequence[Shard], job: Job, address: str | None) -> Iterator[Done]:
    """Each shard as it is done. Without an ``address``: the cluster of ``RAY_ADDRESS``, or one started for this scan.

    A shard whose worker or node is lost is read again elsewhere. Raises ScanError when that does not help.
    """
    # not ray.init(): it tries for minutes to reach the last cluster of this machine, if that died without a word
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        if address not in {"auto", "local"}:
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()  # Ray tries for minutes
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise ScanError(f"no Ray cluster answers at {address}") from error
    task = ray.remote(num_cpus=1, max_retries=MAX_DEATHS, retry_exceptions=[OSError])(scan_shard)  # type: ignore[call-overload]
    at_once = max(_LEAST, QUEUED * int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    try:
        yield from bounded(lambda shard: task.remote(shard, job).future(), shards, at_once)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise ScanError(f"Ray: {str(error).splitlines()[0]}") from error
    finally:
        ray.shutdown()
