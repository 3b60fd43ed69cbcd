"""Constants that the kernel's headers define with ``#define``: the kernel's types do not have them.

Values of x86-64 Linux, from the uapi headers: linux/socket.h, asm-generic/fcntl.h, linux/stat.h, asm-generic/errno.h,
asm/signal.h, asm-generic/mman-common.h, linux/sched.h, linux/if_ether.h, linux/limits.h; and linux/sched.h.
"""

from __future__ import annotations

from invivo.diagnostics import Code, Diagnostics
from invivo.lang.cdecl.declarations import Include

_CONSTANTS = """
    AF_UNSPEC=0 AF_UNIX=1 AF_LOCAL=1 AF_INET=2 AF_AX25=3 AF_IPX=4 AF_APPLETALK=5 AF_NETROM=6 AF_BRIDGE=7
    AF_ATMPVC=8 AF_X25=9 AF_INET6=10 AF_ROSE=11 AF_NETBEUI=13 AF_SECURITY=14 AF_KEY=15 AF_NETLINK=16 AF_PACKET=17
    AF_ASH=18 AF_ECONET=19 AF_ATMSVC=20 AF_RDS=21 AF_SNA=22 AF_IRDA=23 AF_PPPOX=24 AF_WANPIPE=25 AF_LLC=26
    AF_IB=27 AF_MPLS=28 AF_CAN=29 AF_TIPC=30 AF_BLUETOOTH=31 AF_IUCV=32 AF_RXRPC=33 AF_ISDN=34 AF_PHONET=35
    AF_IEEE802154=36 AF_CAIF=37 AF_ALG=38 AF_NFC=39 AF_VSOCK=40 AF_KCM=41 AF_QIPCRTR=42 AF_SMC=43 AF_XDP=44
    AF_MCTP=45 S_IFMT=61440 O_RDONLY=0 O_WRONLY=1 O_RDWR=2 O_ACCMODE=3 O_CREAT=64 O_EXCL=128 O_NOCTTY=256 O_TRUNC=512
    O_APPEND=1024 O_NONBLOCK=2048 O_DSYNC=4096 O_DIRECT=16384 O_DIRECTORY=65536 O_NOFOLLOW=131072 O_NOATIME=262144
    O_CLOEXEC=524288 O_SYNC=1052672 O_PATH=2097152 O_TMPFILE=4259840 S_IFBLK=24576 S_IFCHR=8192 S_IFDIR=16384
    S_IFIFO=4096 S_IFLNK=40960 S_IFREG=32768 S_IFSOCK=49152 S_IRGRP=32 S_IROTH=4
    S_IRUSR=256 S_IRWXG=56 S_IRWXO=7 S_IRWXU=448 S_ISGID=1024 S_ISUID=2048 S_ISVTX=512 S_IWGRP=16 S_IWOTH=2
    S_IWUSR=128 S_IXGRP=8 S_IXOTH=1 S_IXUSR=64 ENODEV=19 ENOCSI=50 EHOSTUNREACH=113 ENOMSG=42 EUCLEAN=117
    EL2NSYNC=45 EL2HLT=51 ENODATA=61 ENOTBLK=15 ENOSYS=38 EPIPE=32 EINVAL=22 EOVERFLOW=75 EADV=68 EINTR=4
    EUSERS=87 ENOTEMPTY=39 ENOBUFS=105 EPROTO=71 EREMOTE=66 ENAVAIL=119 ECHILD=10 ELOOP=40 EXDEV=18 E2BIG=7
    ESRCH=3 EMSGSIZE=90 EAFNOSUPPORT=97 EBADR=53 EHOSTDOWN=112 EPFNOSUPPORT=96 ENOPROTOOPT=92 EBUSY=16 EAGAIN=11
    EBADFD=77 EDOTDOT=73 EISCONN=106 ENOANO=55 ESHUTDOWN=108 ECHRNG=44 ELIBBAD=80 ENONET=64 EBADE=52 EBADF=9
    EMULTIHOP=72 EIO=5 EUNATCH=49 EPROTOTYPE=91 ENOSPC=28 ENOEXEC=8 EALREADY=114 ENETDOWN=100 ENOTNAM=118
    EACCES=13 ELNRNG=48 EILSEQ=84 ENOTDIR=20 ENOTUNIQ=76 EPERM=1 EDOM=33 EXFULL=54 ECONNREFUSED=111 EISDIR=21
    EPROTONOSUPPORT=93 EROFS=30 EADDRNOTAVAIL=99 EIDRM=43 ECOMM=70 ESRMNT=69 EREMOTEIO=121 EL3RST=47 EBADMSG=74
    ENFILE=23 ELIBMAX=82 ESPIPE=29 ENOLINK=67 ENETRESET=102 ETIMEDOUT=110 ENOENT=2 EEXIST=17 EDQUOT=122 ENOSTR=60
    EBADSLT=57 EBADRQC=56 ELIBACC=79 EFAULT=14 EFBIG=27 EDEADLOCK=35 ENOTCONN=107 EDESTADDRREQ=89 ELIBSCN=81
    ENOLCK=37 EISNAM=120 ECONNABORTED=103 ENETUNREACH=101 ESTALE=116 ENOSR=63 ENOMEM=12 ENOTSOCK=88 ESTRPIPE=86
    EMLINK=31 ERANGE=34 ELIBEXEC=83 EL3HLT=46 ECONNRESET=104 EADDRINUSE=98 ENOTSUP=95 EREMCHG=78 ENAMETOOLONG=36
    ENOTTY=25 ERESTART=85 ESOCKTNOSUPPORT=94 ETIME=62 EBFONT=59 ETOOMANYREFS=109 EMFILE=24 ETXTBSY=26
    EINPROGRESS=115 ENXIO=6 ENOPKG=65 ENOMEDIUM=123 EMEDIUMTYPE=124 ECANCELED=125 ENOKEY=126 EKEYEXPIRED=127
    EKEYREVOKED=128 EKEYREJECTED=129 EOWNERDEAD=130 ENOTRECOVERABLE=131 ERFKILL=132 SIGABRT=6 SIGALRM=14 SIGBUS=7
    SIGCHLD=17 SIGCLD=17 SIGCONT=18 SIGFPE=8 SIGHUP=1 SIGILL=4 SIGINT=2 SIGIO=29 SIGIOT=6 SIGKILL=9 SIGPIPE=13
    SIGPOLL=29 SIGPROF=27 SIGPWR=30 SIGQUIT=3 SIGSEGV=11 SIGSTKFLT=16 SIGSTOP=19 SIGSYS=31 SIGTERM=15 SIGTRAP=5
    SIGTSTP=20 SIGTTIN=21 SIGTTOU=22 SIGURG=23 SIGUSR1=10 SIGUSR2=12 SIGVTALRM=26 SIGWINCH=28 SIGXCPU=24
    SIGXFSZ=25 PROT_READ=1 PROT_WRITE=2 PROT_EXEC=4 MAP_SHARED=1 MAP_PRIVATE=2 MAP_ANONYMOUS=32 MAP_FIXED=16
    PROT_NONE=0 CLONE_VM=256 CLONE_FS=512 CLONE_FILES=1024 CLONE_SIGHAND=2048 CLONE_PTRACE=8192 CLONE_VFORK=16384
    CLONE_PARENT=32768 CLONE_THREAD=65536 CLONE_NEWNS=131072 CLONE_NEWCGROUP=33554432 CLONE_NEWUTS=67108864
    CLONE_NEWIPC=134217728 CLONE_NEWUSER=268435456 CLONE_NEWPID=536870912 CLONE_NEWNET=1073741824 PF_IDLE=2
    PF_EXITING=4 PF_KTHREAD=2097152 PF_FORKNOEXEC=64 PF_SUPERPRIV=256 PF_DUMPCORE=512 PF_SIGNALED=1024
    PF_MEMALLOC=2048 TASK_RUNNING=0 TASK_INTERRUPTIBLE=1 TASK_UNINTERRUPTIBLE=2 TASK_COMM_LEN=16 PATH_MAX=4096
    NAME_MAX=255 PAGE_SIZE=4096 PAGE_SHIFT=12 IFNAMSIZ=16 ETH_ALEN=6 ETH_P_IP=2048 ETH_P_IPV6=34525 ETH_P_ARP=2054
    SEEK_SET=0 SEEK_CUR=1 SEEK_END=2 MINORBITS=20 MINORMASK=1048575 AT_FDCWD=-100
"""

# Folders of headers that a compiler finds where the kernel's are installed.
_FOLDERS = (
    *("linux", "net", "asm", "asm-generic", "uapi", "bpf", "sys", "trace", "drm", "scsi", "sound", "rdma", "video"),
    *("xen", "media", "kvm", "crypto", "acpi", "generated", "vdso", "bits", "gnu", "arpa", "netinet", "misc", "mtd"),
)

# Headers of C and of the system interfaces that stand in no folder.
_OF_C = """
    alloca ar assert byteswap complex cpio crypt ctype dirent dlfcn elf endian err errno error fcntl features fenv
    float fnmatch ftw getopt glob grp iconv ifaddrs inttypes iso646 langinfo libgen limits link locale malloc math
    memory mntent netdb poll pthread pty pwd regex resolv sched search semaphore setjmp shadow signal spawn stdarg
    stdbool stddef stdint stdio stdlib string strings syscall sysexits syslog termios threads time uchar ucontext
    unistd utime utmp utmpx values wait wchar wctype
"""
OPTION = "--include"  # the name of the text of which headers are that the command line asks for


def header_constant(name: str) -> int | None:
    """The value of a constant of the kernel's headers, if there is one of that name."""
    for row in _CONSTANTS.split():
        known, _, value = row.partition("=")
        if known == name:
            return int(value)
    return None


def check_include(include: Include, diagnostics: Diagnostics, *, bpftrace: bool) -> None:
    """Headers are not read. The neighbour reads them, and so says nothing of those that there are."""
    if not bpftrace:
        diagnostics.warning(
            Code.DEPRECATED,
            include.span,
            f"{include.path} is not read: types come from the kernel's BTF",
            "struct, union and enum names of the kernel are there without it",
        )
    elif not _is_known(include.path):
        if include.span.source.name == OPTION:
            message = f"<built-in>:{include.span.location().line}:10: fatal error: '{include.path}' file not found"
            diagnostics.error(Code.BAD_DECLARATION, include.span, message)
            return
        line = 1 + include.span.location().line  # its text of definitions has a line before the script's
        message = f"definitions.h:{line}:10: fatal error: '{include.path}' file not found"
        diagnostics.error(Code.BAD_DECLARATION, include.span, message)


def _is_known(path: str) -> bool:
    """Whether a header is one of the kernel's or of C's: its types are the kernel's."""
    folder, slash, _ = path.partition("/")
    return folder in _FOLDERS if slash else path.removesuffix(".h") in _OF_C.split()
