"""The systemd unit: hardened, watched over, with nothing to write to but its own two directories.

Pure but for `install`, which needs root. Sources: systemd.exec(5), systemd.service(5), `systemd-analyze security`.
"""

import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from pusher.bytecode import compiled
from pusher.config import Config

__all__ = ["UNIT_NAME", "InstallError", "install", "may_run", "unit_text"]

UNIT_NAME = "nrgkick-pusher.service"
USER = "nrgkick-pusher"
UNIT_FOLDER = Path("/etc/systemd/system")
STATE_DIR, RUN_DIR = Path("/var/lib/nrgkick-pusher"), Path("/run/nrgkick-pusher")

_UNIT = """\
[Unit]
Description=NRGkick pusher: reads the house's devices for the wallbox
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={program} run --config {config}
ExecReload=/bin/kill -HUP $MAINPID
Restart=always
RestartSec=5
TimeoutStartSec=180
TimeoutStopSec=30
# Fed only while the readers and both lanes get on.
WatchdogSec=120
User={user}
Group={user}
{directories}
UMask=0077
LimitCORE=0
MemoryMax=128M
TasksMax=64
Environment=MALLOC_ARENA_MAX=2 PYTHONDONTWRITEBYTECODE=1
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome={home}
PrivateTmp=yes
PrivateUsers={users}
{devices}
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
RemoveIPC=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
CapabilityBoundingSet=
AmbientCapabilities=
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources

[Install]
WantedBy=multi-user.target
"""


class InstallError(Exception):
    """The service could not be installed; the message says why and what to do."""


def unit_text(config_path: Path, config: Config, program: Path) -> str:
    """The unit for a configuration, with `program` as the absolute path of nrgkick-pusher."""
    serial = any(_serial_port(device.options) for device in config.devices)
    places = [program.resolve(), config_path, Path(sys.prefix), Path(sys.executable).resolve()]
    places += [Path(config.cloud.token_file).absolute()] if config.cloud.token_file else []
    homes = any(str(path).startswith(("/home/", "/root/")) for path in places)
    return _UNIT.format(
        program=program,
        config=config_path,
        user=USER,
        directories="\n".join(_directories(config)),
        home="read-only" if homes else "yes",
        # A serial port belongs to the group dialout, which a private user namespace would hide.
        users="no" if serial else "yes",
        devices="DeviceAllow=char-ttyUSB rw\nDeviceAllow=char-ttyACM rw\nDeviceAllow=char-ttyAMA rw\n"
        "SupplementaryGroups=dialout"
        if serial
        else "PrivateDevices=yes",
    )


def _serial_port(options: object) -> bool:
    return getattr(options, "serial", None) is not None


def _directories(config: Config) -> list[str]:
    lines = []
    if config.state_dir == STATE_DIR:
        lines += ["StateDirectory=nrgkick-pusher", "StateDirectoryMode=0750"]
    else:
        lines.append(f"ReadWritePaths={config.state_dir}")
    if config.run_dir == RUN_DIR:
        # The proxy in front asks pusher.sock as another user.
        lines += ["RuntimeDirectory=nrgkick-pusher", "RuntimeDirectoryMode=0755"]
    else:
        lines.append(f"ReadWritePaths={config.run_dir}")
    return lines


def install(unit: str, config_path: Path, config: Config, program: Path) -> list[str]:
    """Make the service's user, let it read its files, write the unit and start it; what was done. Raises InstallError.

    Nothing is started that could not run (see `may_run`); then the files are as they were.
    """
    if os.geteuid() != 0:
        raise InstallError("installing needs root: run this again with sudo")
    if shutil.which("systemctl") is None:
        raise InstallError('this machine has no systemd; "nrgkick-pusher service" prints the unit for others to adapt')
    done: list[str] = []
    if compiled():  # the service itself may write nothing beside the code
        done.append("compiled the daemon without its docstrings, which saves 2 MiB of memory")
    try:
        pwd.getpwnam(USER)
    except KeyError:
        _do("useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", USER)
        done.append(f"made the user {USER}")
    files = [config_path, *([Path(config.cloud.token_file)] if config.cloud.token_file else [])]
    were = {path: path.stat() for path in files}
    try:
        for path in files:
            os.chown(path, 0, pwd.getpwnam(USER).pw_gid)
            path.chmod(0o640)
        may_run(program, config_path, USER)
    except (InstallError, OSError):
        for path, was in were.items():  # it may be that they serve somebody else meanwhile
            os.chown(path, was.st_uid, was.st_gid)
            path.chmod(stat.S_IMODE(was.st_mode))
        raise
    done += [f"let {USER} read {path}, and nobody else" for path in files]
    place = UNIT_FOLDER / UNIT_NAME
    place.write_text(unit, encoding="utf-8")
    done.append(f"wrote {place}")
    _do("systemctl", "daemon-reload")
    _do("systemctl", "enable", "--now", UNIT_NAME)
    done.append(f"started {UNIT_NAME}; it starts with the machine from now on")
    return done


def may_run(program: Path, config_path: Path, user: str) -> None:
    """Make sure that a user may run this program with this configuration; raises InstallError. Needs root.

    Homes are closed to others on many systems, and what is installed in one is then out of the service's reach.
    """
    command = [str(program), "check", "--config", str(config_path)]
    try:
        result = subprocess.run(  # noqa: S603 - ourselves
            command, user=user, group=pwd.getpwnam(user).pw_gid, extra_groups=[], env={}, cwd="/",
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        said = (result.stdout + result.stderr).strip()[-2000:] or f"{program} said nothing"
        said = f"{said}\n(exit code {result.returncode})" if result.returncode else ""
    except OSError as error:
        said = f"{program}: {error.strerror}"
    if said:
        raise InstallError(
            f"the user {user} cannot run the service:\n{said}\n"
            "If it is not let in somewhere: install the pusher below /opt, put configuration and token below "
            "/etc/nrgkick-pusher (others may not look into a home), and call this again."
        )


def _do(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed commands
    if result.returncode:
        raise InstallError(f"{' '.join(command)} failed: {result.stderr.strip() or result.returncode}")
