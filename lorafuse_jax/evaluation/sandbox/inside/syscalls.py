"""Numbers of Linux's system calls: ``asm/unistd_64.h`` and ``asm-generic/unistd.h``.

In the strings, each call has its number on x86_64, then that on aarch64.
"""

MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
"""Those whose numbers are known, and what the kernel calls them (``linux/audit.h``)."""

NEWEST = 450
"""The last that was looked at (Linux 5.17)."""

DENIED = """
fork 57 -, vfork 58 -, execve 59 221, execveat 322 281, unshare 272 97, setns 308 268,
socket 41 198, ptrace 101 117, process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
pidfd_open 434 434, pidfd_getfd 438 438, pidfd_send_signal 424 424, process_madvise 440 440,
process_mrelease 448 448, tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240,
setpriority 141 140, ioprio_set 251 30, migrate_pages 256 238, move_pages 279 239, mount 165 40,
umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428, move_mount 429 429,
fsopen 430 430, fsconfig 431 431, fsmount 432 432, fspick 433 433, mount_setattr 442 442,
open_by_handle_at 304 265, name_to_handle_at 303 264, quotactl 179 60, quotactl_fd 443 443,
sync 162 81, syncfs 306 267, truncate 76 45, chmod 90 -, fchmod 91 52, fchmodat 268 53, chown 92 -,
fchown 93 55, lchown 94 -, fchownat 260 54, utime 132 -, utimes 235 -, futimesat 261 -,
utimensat 280 88, setxattr 188 5, lsetxattr 189 6, fsetxattr 190 7, removexattr 197 14,
lremovexattr 198 15, fremovexattr 199 16, memfd_create 319 279, memfd_secret 447 447,
mq_open 240 180, shmget 29 194, semget 64 190, msgget 68 186, add_key 248 217, request_key 249 218,
keyctl 250 219, bpf 321 280, perf_event_open 298 241, userfaultfd 323 282, io_uring_setup 425 425,
io_uring_enter 426 426, io_uring_register 427 427, fanotify_init 300 262, personality 135 92,
modify_ldt 154 -, iopl 172 -, ioperm 173 -, acct 163 89, swapon 167 224, swapoff 168 225,
reboot 169 142, sethostname 170 161, setdomainname 171 162, settimeofday 164 170,
clock_settime 227 112, adjtimex 159 171, clock_adjtime 305 266, init_module 175 105,
finit_module 313 273, delete_module 176 106, kexec_load 246 104, kexec_file_load 320 294,
syslog 103 116, vhangup 153 58,
"""
"""What no program of a benchmark needs."""

ARGUED = """
clone 56 220, clone3 435 435, kill 62 129, tgkill 234 131, prctl 157 167, prlimit64 302 261,
fcntl 72 25, ioctl 16 29, sched_setparam 142 118, sched_setscheduler 144 119,
sched_setattr 314 274, sched_setaffinity 203 122, socketpair 53 199,
"""
"""Calls of which the arguments decide."""

OWN = """
capset 126 91, pivot_root 155 41, landlock_create_ruleset 444 444, landlock_add_rule 445 445,
landlock_restrict_self 446 446,
"""
"""What the sandbox itself calls, and Python has no function for."""


def numbers(table: str, machine: str) -> dict[str, int]:
    """Name -> number, without the calls that the machine does not have.

    Raises:
        OSError: the machine's numbers are not known.
    """
    if machine not in MACHINES:
        raise OSError(f"no system calls are known for {machine} machines")
    column = 1 + list(MACHINES).index(machine)
    rows = [entry.split() for entry in table.split(",") if entry.strip()]
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"}
