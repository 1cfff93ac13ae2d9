"""The shared structures: what C asserts at build time is what Python uses."""

from __future__ import annotations

import struct

from ring3.kernel import channel, layout


def test_header_asserts_every_offset() -> None:
    header = layout.c_header()
    for name, fields in layout.C_STRUCTS.items():
        for field, _, _ in fields:
            at = layout.offset(name, field)
            assert (
                f'_Static_assert(__builtin_offsetof(struct {name}, {field}) == {at}, "{name}.{field}");'
                in header
            )


def test_request_is_read_in_one_piece() -> None:
    slot = layout.OFFSETS["ring3_slot"]
    values = list(range(1, 34))
    raw = bytearray(layout.SLOT_SIZE)
    at = slot["kind"]
    channel.REQUEST.pack_into(raw, at, *values[: len(channel.REQUEST.unpack(bytes(channel.REQUEST.size)))])
    assert struct.unpack_from("<I", raw, slot["kind"])[0] == 1
    assert struct.unpack_from("<q", raw, slot["nr"])[0] == 2
    assert struct.unpack_from("<6Q", raw, slot["args"]) == (3, 4, 5, 6, 7, 8)
    assert struct.unpack_from("<Q", raw, slot["ip"])[0] == 9
    assert struct.unpack_from("<6I", raw, slot["in_off"]) == tuple(range(12, 18))
    assert struct.unpack_from("<6I", raw, slot["in_len"]) == tuple(range(18, 24))
    assert struct.unpack_from("<2i", raw, slot["id_fd"]) == (24, 25)
    assert struct.unpack_from("<2I", raw, slot["id_mode"]) == (26, 27)
    assert struct.unpack_from("<2Q", raw, slot["id_dev"]) == (28, 29)
    assert struct.unpack_from("<2Q", raw, slot["id_ino"]) == (30, 31)


def test_reply_fits_before_the_data() -> None:
    assert layout.SIZES["ring3_slot"] <= layout.SLOT_DATA
    assert layout.SLOT_DATA % 64 == 0


def test_writers_do_not_share_a_cache_line() -> None:
    slot = layout.OFFSETS["ring3_slot"]
    assert slot["req"] // 64 != slot["rep"] // 64 != slot["kind"] // 64
    assert slot["r_result"] % 64 == 0


def test_no_two_constants_of_a_kind_are_the_same() -> None:
    for kind in ("REQ_", "MSG_", "ACT_", "HOOK_"):
        values = [value for name, value in layout.CONSTANTS.items() if name.startswith(kind)]
        assert len(values) == len(set(values)), kind
