"""struct termios as strace writes it.

Layer: the pretend kernel, trace.  May touch: nothing.  Numbers: include/uapi/asm-generic/termbits.h, x86-64.
"""

from __future__ import annotations

import struct

from .flags import _table

_IFLAG = _table(
    "IGNBRK=0o1 BRKINT=0o2 IGNPAR=0o4 PARMRK=0o10 INPCK=0o20 ISTRIP=0o40 INLCR=0o100 IGNCR=0o200 ICRNL=0o400"
    " IUCLC=0o1000 IXON=0o2000 IXANY=0o4000 IXOFF=0o10000 IMAXBEL=0o20000 IUTF8=0o40000"
)
_OFLAG = _table(
    "OPOST=0o1 OLCUC=0o2 ONLCR=0o4 OCRNL=0o10 ONOCR=0o20 ONLRET=0o40 OFILL=0o100 OFDEL=0o200"
)
#: delays: mask, shift, name
_DELAYS = ((0o400, 8, "NL"), (0o3000, 9, "CR"), (0o14000, 11, "TAB"), (0o20000, 13, "BS"), (0o40000, 14, "VT"),
           (0o100000, 15, "FF"))  # fmt: skip
_CFLAG = _table(
    "CSTOPB=0o100 CREAD=0o200 PARENB=0o400 PARODD=0o1000 HUPCL=0o2000 CLOCAL=0o4000 ADDRB=0o4000000000"
    " CMSPAR=0o10000000000 CRTSCTS=0o20000000000"
)
_SPEEDS = _table(
    "B0=0 B50 B75 B110 B134 B150 B200 B300 B600 B1200 B1800 B2400 B4800 B9600 B19200 B38400 BOTHER=0o10000 B57600"
    " B115200 B230400 B460800 B500000 B576000 B921600 B1000000 B1152000 B1500000 B2000000 B2500000"
    " B3000000 B3500000 B4000000"
)
_LFLAG = _table(
    "ISIG=0o1 ICANON=0o2 XCASE=0o4 ECHO=0o10 ECHOE=0o20 ECHOK=0o40 ECHONL=0o100 NOFLSH=0o200 TOSTOP=0o400 "
    "ECHOCTL=0o1000 ECHOPRT=0o2000 ECHOKE=0o4000 FLUSHO=0o10000 PENDIN=0o40000 IEXTEN=0o100000 EXTPROC=0o200000"
)
#: in the order in which strace has them
_LOCAL_ORDER = ("ISIG", "ICANON", "XCASE", "ECHO", "ECHOE", "ECHOK", "ECHONL", "NOFLSH", "TOSTOP", "IEXTEN", "ECHOCTL",
                "ECHOPRT", "ECHOKE", "FLUSHO", "PENDIN", "EXTPROC")  # fmt: skip


def _named(value: int, names: dict[int, str]) -> list[str]:
    out = [name for bit, name in names.items() if value & bit]
    rest = value & ~sum(names)
    return [*out, hex(rest)] if rest else out


def termios(data: bytes) -> str:
    """The 36 bytes of a struct termios (TCGETS), without its control characters."""
    iflag, oflag, cflag, lflag = struct.unpack_from("<4I", data)
    delays = [f"{name}{(oflag & mask) >> shift}" for mask, shift, name in _DELAYS]
    delays = ["XTABS" if d == "TAB3" else d for d in delays]
    output = delays + _named(oflag & ~sum(m for m, _, _ in _DELAYS), _OFLAG)
    control = [_SPEEDS.get(cflag & 0o10017, oct(cflag & 0o10017)), f"CS{5 + (cflag >> 4 & 3)}"]
    control += _named(cflag & ~0o10077 & ~0o2003600000, _CFLAG)
    present = {v: k for k, v in _LFLAG.items()}
    local = [n for n in _LOCAL_ORDER if lflag & present[n]]
    return (f"{{c_iflag={'|'.join(_named(iflag, _IFLAG))}, c_oflag={'|'.join(output)}, c_cflag={'|'.join(control)}, "
            f"c_lflag={'|'.join(local)}, ...}}")  # fmt: skip
