"""Socket addresses, messages and options as strace writes them.

Layer: the pretend kernel, trace.  May touch: guest memory, reading.
"""

from __future__ import annotations

import socket
import struct

from .decode import View, fmt, pointer, quote
from .flags import flags, one
from .structs import iovec, timeval


def sockaddr(data: bytes) -> str:
    """A struct sockaddr of any family."""
    if len(data) < 2:
        return quote(data)
    (family,) = struct.unpack_from("<H", data)
    if family == 1:
        path = data[2:]
        if not path:
            return "{sa_family=AF_UNIX}"
        if path[:1] == b"\0":
            return f"{{sa_family=AF_UNIX, sun_path=@{quote(path[1:])}}}"
        return f"{{sa_family=AF_UNIX, sun_path={quote(path.split(bytes(1))[0])}}}"
    if family == 2 and len(data) >= 8:
        port = struct.unpack_from(">H", data, 2)[0]
        return f'{{sa_family=AF_INET, sin_port=htons({port}), sin_addr=inet_addr("{socket.inet_ntoa(data[4:8])}")}}'
    if family == 10 and len(data) >= 24:
        port, flow = struct.unpack_from(">HI", data, 2)
        scope = struct.unpack_from("<I", data, 24)[0] if len(data) >= 28 else 0
        text = socket.inet_ntop(socket.AF_INET6, data[8:24])
        return (f"{{sa_family=AF_INET6, sin6_port=htons({port}), sin6_flowinfo=htonl({flow}), "
                f'inet_pton(AF_INET6, "{text}", &sin6_addr), sin6_scope_id={scope}}}')  # fmt: skip
    if family == 16 and len(data) >= 12:
        pid, groups = struct.unpack_from("<II", data, 4)
        return f"{{sa_family=AF_NETLINK, nl_pid={pid}, nl_groups={groups:08x}}}"
    return f"{{sa_family={one('af', family)}, sa_data={quote(data[2:16])}}}"


@fmt("sockaddr_in")
def _sockaddr_in(v: View, i: int) -> str:
    length = v.raw[i + 1] & 0xFFFFFFFF
    if not v.raw[i]:
        return "NULL"
    return sockaddr(v.bytes_at(v.raw[i], min(length, 128))) if length else pointer(v.raw[i])


@fmt("sockaddr", late=True)
def _sockaddr(v: View, i: int) -> str:
    if v.failed or not v.raw[i] or not v.raw[i + 1]:
        return pointer(v.raw[i])
    length = struct.unpack("<i", v.bytes_at(v.raw[i + 1], 4))[0]
    return sockaddr(v.bytes_at(v.raw[i], min(length, 128))) if length > 0 else pointer(v.raw[i])


@fmt("addrlen", late=True)
def _addrlen(v: View, i: int) -> str:
    if not v.raw[i]:
        return "NULL"
    after = struct.unpack("<i", v.bytes_at(v.raw[i], 4))[0]
    before = v.call.input(i)
    if before is not None and len(before) == 4:
        was = struct.unpack("<i", before)[0]
        if was != after and not v.failed:
            return f"[{was} => {after}]"
    return f"[{after}]"


def _message(v: View, at: int, size: int | None) -> str:
    name, name_length, iov, count, control, control_length, message_flags = struct.unpack(
        "<QI4xQQQQi4x", v.bytes_at(at, 56)
    )
    who = sockaddr(v.bytes_at(name, min(name_length, 128))) if name and name_length else pointer(name)
    text = f"{{msg_name={who}, msg_namelen={name_length}, msg_iov={iovec(v, iov, count, size)}, msg_iovlen={count}"
    if control and control_length:
        text += f", msg_control={control_messages(v, v.bytes_at(control, min(control_length, 4096)))}"
    return text + f", msg_controllen={control_length}, msg_flags={flags('msg', message_flags & 0xFFFFFFFF)}}}"


def control_messages(v: View, data: bytes) -> str:
    out, at = [], 0
    while at + 16 <= len(data):
        length, level, kind = struct.unpack_from("<Qii", data, at)
        if length < 16:
            break
        body = data[at + 16 : at + length]
        text = f"{{cmsg_len={length}, cmsg_level={one('sol', level)}"
        if level == 1 and kind == 1:
            fds = struct.unpack(f"<{len(body) // 4}i", body[: len(body) // 4 * 4])
            text += f", cmsg_type=SCM_RIGHTS, cmsg_data=[{', '.join(v.fd(f) for f in fds)}]}}"
        elif level == 1 and kind == 2 and len(body) >= 12:
            pid, uid, gid = struct.unpack_from("<iII", body)
            text += f", cmsg_type=SCM_CREDENTIALS, cmsg_data={{pid={pid}, uid={uid}, gid={gid}}}}}"
        else:
            text += f", cmsg_type={kind:#x}}}"
        out.append(text)
        at += (length + 7) // 8 * 8
    return "[" + ", ".join(out) + "]"


@fmt("msghdr_in")
def _msghdr_in(v: View, i: int) -> str:
    return _message(v, v.raw[i], 1 << 62) if v.raw[i] else "NULL"


@fmt("msghdr", late=True)
def _msghdr(v: View, i: int) -> str:
    return pointer(v.raw[i]) if v.failed or not v.raw[i] else _message(v, v.raw[i], v.result)


@fmt("mmsghdr", late=True)
def _mmsghdr(v: View, i: int) -> str:
    """A vector of struct mmsghdr: those that were sent or received."""
    if not v.raw[i] or v.failed or v.result is None:
        return pointer(v.raw[i])
    out = []
    for n in range(min(v.result, 1024)):
        at = v.raw[i] + 64 * n
        (length,) = struct.unpack("<I", v.bytes_at(at + 56, 4))
        out.append(f"{{msg_hdr={_message(v, at, length)}, msg_len={length}}}")
    return "[" + ", ".join(out) + "]"


def _option(v: View, at: int, size: int) -> str:
    level, name = v.int32(1), v.int32(2)
    if level == 1 and name in (20, 21) and size >= 16:
        return timeval(v, at)
    if level == 1 and name == 13 and size >= 8:
        on, linger = struct.unpack("<ii", v.bytes_at(at, 8))
        return f"{{l_onoff={on}, l_linger={linger}}}"
    if level == 1 and name == 17 and size >= 12:
        pid, uid, gid = struct.unpack("<iII", v.bytes_at(at, 12))
        return f"{{pid={pid}, uid={uid}, gid={gid}}}"
    if size == 4:
        return f"[{struct.unpack('<i', v.bytes_at(at, 4))[0]}]"
    return quote(v.bytes_at(at, min(size, v.options.strings + 1)), v.options.strings)


@fmt("optval_in")
def _optval_in(v: View, i: int) -> str:
    return _option(v, v.raw[i], v.raw[i + 1] & 0xFFFFFFFF) if v.raw[i] else "NULL"


@fmt("optval", late=True)
def _optval(v: View, i: int) -> str:
    if v.failed or not v.raw[i]:
        return pointer(v.raw[i])
    return _option(v, v.raw[i], struct.unpack("<i", v.bytes_at(v.raw[i + 1], 4))[0])
