"""What Linux tells of a process from outside: its peak of memory, its CPU, what it writes and forces to disk."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    """A process by its id; every answer is of its whole life so far."""

    pid: int

    def peak_mib(self) -> float:
        """The most memory that it ever had at once (VmHWM)."""
        return int(self._table("status")["VmHWM"].split()[0]) / 1024

    def cpu_s(self) -> tuple[float, float]:
        """CPU time of its own, and of the programs that it started and that have ended."""
        spent = Path("/proc", str(self.pid), "stat").read_text().rpartition(")")[2].split()[11:15]
        user, system, child_user, child_system = (int(ticks) / TICKS_PER_S for ticks in spent)
        return user + system, child_user + child_system

    def written_kib(self) -> float:
        """What it has had written to disk."""
        return int(self._table("io")["write_bytes"]) / 1024

    def _table(self, name: str) -> dict[str, str]:
        lines = Path("/proc", str(self.pid), name).read_text().splitlines()
        return dict(line.split(":", 1) for line in lines)


async def traced(pid: int, counted: Path) -> asyncio.subprocess.Process | None:
    """strace, attached to a process; None where there is none."""
    strace = shutil.which("strace")
    words = ("-f", "-c", "-qq", "-e", "trace=fsync,fdatasync", "-o", counted, "-p", str(pid))
    return await asyncio.create_subprocess_exec(strace, *words) if strace else None


def syncs(counted: Path) -> int:
    """Calls in strace's summary."""
    lines = [line.split() for line in counted.read_text().splitlines()]
    return sum(int(words[3]) for words in lines if words and words[-1] in ("fsync", "fdatasync"))
