"""What of the machine this process may use."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def cores(quota: Path = _QUOTA) -> int:
    """Cores that are this process's: those it may run on, or fewer where the container's quota gives it less time."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        microseconds, period = quota.read_text(encoding="ascii").split()
        return min(allowed, max(1, math.ceil(int(microseconds) / int(period))))
    except (OSError, ValueError):  # no such control group, or no quota: "max 100000"
        return allowed
