"""Programs that reach for the machine: ``attack(place)`` gives what it got, and must give nothing.

``place`` names a folder of the tester's with a file ``secret`` in it, and a process to harm.
"""

TEST = "assert attack({place!r}, {victim}) == []"

HEAD = """
import ctypes, os, signal, socket, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
got = []
def attempt(what, *args, **kwargs):
    try:
        found = what(*args, **kwargs)
    except (Exception, SystemExit) as error:
        return None
    if found != -1:
        got.append(f"{what} {args}: {found!r}")
    return found
"""

INTRUSIONS = {
    "reads files": """
def attack(place, victim):
    for path in (place + "/secret", "/etc/passwd", "/etc/shadow", "/proc/self/environ",
                 "/proc/1/cmdline", "/proc/%d/environ" % victim, "/root/.bashrc", "/dev/vda",
                 "/dev/kmsg", "/dev/mem", "../../" + place + "/secret", "/sys/kernel/notes"):
        attempt(open, path, "rb")
    for folder in (place, "/root", "/home", "/tmp", "/var", os.path.expanduser("~root"), ".."):
        if folder != ".." or os.path.realpath("..") != "/":
            attempt(os.listdir, folder)
    attempt(os.symlink, place + "/secret", "link")
    got.clear()
    attempt(open, "link")
    os.path.lexists("hard") or attempt(os.link, place + "/secret", "hard")
    return got
""",
    "finds no project": """
def attack(place, victim):
    for name in ("lorafuse_jax", "lorafuse_jax.types", "tests.evaluation"):
        attempt(__import__, name)
    for path in PROJECT:
        attempt(open, path)
    return got
""",
    "writes files": """
def attack(place, victim):
    for folder in (place, "/root", "/var/tmp", "/dev", "/dev/shm", "/usr/lib", "/",
                   os.path.dirname(os.__file__), os.path.dirname(sys.executable)):
        attempt(open, folder + "/lorafuse-was-here", "w")
        attempt(os.mkdir, folder + "/lorafuse-was-there")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_APPEND | os.O_WRONLY):
        attempt(os.open, place + "/secret", flags)
    secret = place + "/secret"
    attempt(os.truncate, secret, 0)
    attempt(os.chmod, secret, 0o777)
    attempt(os.utime, secret, (0, 0))
    attempt(os.setxattr, secret, "user.x", b"1")
    attempt(os.unlink, secret)
    attempt(os.rename, secret, place + "/other")
    attempt(os.rename, secret, "stolen")
    attempt(os.chmod, os.__file__, 0o666)
    return got
""",
    "starts processes": """
def attack(place, victim):
    for start in (os.fork, os.forkpty, libc.fork, libc.vfork):
        pid = attempt(start)
        if pid == 0:
            os.setsid()
            os._exit(0)
    attempt(subprocess.run, [sys.executable, "-c", ""])
    attempt(subprocess.run, "true", shell=True)
    attempt(os.posix_spawn, sys.executable, [sys.executable], {})
    attempt(os.execv, sys.executable, [sys.executable, "-c", ""])
    if os.system("true") == 0:
        got.append("system")
    import multiprocessing
    attempt(lambda: multiprocessing.Process(target=print).start())
    for number in CLONES:
        if attempt(libc.syscall, number, 17, 0, 0, 0, 0) == 0:
            os._exit(0)
    return got
""",
    "forks without end": """
def attack(place, victim):
    for _ in range(10000):
        try:
            os.fork()
        except OSError:
            return got
    return ["no end"]
""",
    "harms processes": """
def attack(place, victim):
    for pid in {victim, os.getppid(), 1, -1, *range(2, 40)} - {os.getpid(), 0}:
        # Signal 0 needs the same permission as any other, and does no harm where it is given.
        attempt(os.kill, pid, 0)
        attempt(os.killpg, pid, 0) if pid > 0 else None
        attempt(signal.pidfd_send_signal, 0, 0)
        attempt(libc.tgkill, pid, pid, 0)
        attempt(libc.syscall, TKILL, pid, 0)
        attempt(libc.ptrace, 16, pid, 0, 0)
        attempt(os.pidfd_open, pid)
    import fcntl, resource
    hears, says = os.pipe()
    attempt(fcntl.fcntl, hears, fcntl.F_SETOWN, victim)
    attempt(fcntl.fcntl, hears, 10, signal.SIGURG)
    attempt(resource.prlimit, victim, resource.RLIMIT_CORE, (0, 0))
    attempt(os.sched_setaffinity, victim, [0])
    attempt(os.setpriority, os.PRIO_PROCESS, victim, 19)
    return got
""",
    "opens sockets": """
def attack(place, victim):
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            attempt(socket.socket, family, kind)
    attempt(socket.create_connection, ("127.0.0.1", 22), 0.1)
    import urllib.request
    attempt(urllib.request.urlopen, "http://127.0.0.1:1", timeout=0.1)
    attempt(libc.syscall, 425, 8, (ctypes.c_char * 120)())
    return got
""",
    "takes rights": """
def attack(place, victim):
    attempt(libc.unshare, 0x10000000)
    attempt(libc.unshare, 0x20000)
    attempt(libc.mount, b"none", b"/", b"tmpfs", 0, None)
    attempt(libc.umount2, b"/", 2)
    attempt(libc.setns, 0, 0)
    attempt(os.chroot, "/")
    attempt(os.setuid, 0) if os.getuid() else None
    attempt(os.setgid, 0) if os.getgid() else None
    attempt(os.mknod, "disk", 0o60600, os.makedev(254, 0))
    attempt(libc.prctl, 1, 0, 0, 0, 0)
    attempt(libc.sethostname, b"x", 1)
    attempt(libc.shmget, 5, 100, 0o1600)
    attempt(libc.mq_open, b"/queue", os.O_CREAT | os.O_RDWR, 0o600, None)
    attempt(libc.process_vm_readv, os.getpid(), None, 0, None, 0, 0)
    attempt(libc.personality, 0x0400000)
    import resource
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE):
        attempt(resource.setrlimit, kind, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    return got
""",
    "inherits": """
def attack(place, victim):
    for name in os.environ:
        if name not in ("LANG", "PYTHONHASHSEED", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS",
                        "HOME", "TMPDIR", "LC_CTYPE"):
            got.append(name)
    for descriptor in range(64):
        try:
            mode = os.fstat(descriptor).st_mode
        except OSError:
            continue
        import stat
        if not (stat.S_ISFIFO(mode) or (descriptor < 3 and stat.S_ISCHR(mode))):
            got.append(descriptor)
    got.extend(os.listdir("."))
    got.extend(path for path in sys.path if path.startswith(place))
    return got
""",
    "starts threads without end": """
def attack(place, victim):
    threading.stack_size(32768)
    event, started = threading.Event(), 0
    try:
        while started < 5000:
            threading.Thread(target=event.wait, daemon=True).start()
            started += 1
    except RuntimeError:
        pass
    event.set()
    return [started] if started > 2000 else []
""",
    "fills the disk with a file": """
def attack(place, victim):
    with open("large", "wb", buffering=0) as file:
        try:
            for _ in range(100):
                file.write(bytes(1 << 20))
        except OSError:
            return got
    return ["wrote 100 MiB"]
""",
}
"""Each begins with ``HEAD``."""
