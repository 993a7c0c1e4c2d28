"""What the kernel says that a process has used."""

from pathlib import Path


def cpu_seconds(process_id: int) -> float:
    """Of all threads that it has now."""
    # To the nanosecond; /proc/PID/stat counts ticks, of which a short run has too few.
    return sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{process_id}/task").glob("*/schedstat")) / 1e9


def resident_mb(process_id: int) -> float:
    """Memory that it holds, in millions of bytes."""
    pages = int(Path(f"/proc/{process_id}/statm").read_text().split()[1])
    return pages * 4096 / 1e6
