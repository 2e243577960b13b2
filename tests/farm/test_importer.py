"""What crosses the network: exactly the parts that are not zero."""

from __future__ import annotations

import io
import os
import zlib

import pytest
from caller import TestCaller
from hypothesis import given, settings
from hypothesis import strategies as st

from dnc.errors import BadInput, DncError
from dnc.farm.importer import BLOCK, FRAME, Packer, Progress, runs, runs_of_file, runs_of_stream, send


def rebuilt(pieces, size):
    target = bytearray(size)
    for offset, data in pieces:
        assert len(data) <= FRAME
        target[offset : offset + len(data)] = data
    return bytes(target)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([b"\0", b"x", b"\0\0\0y"]), max_size=12), st.integers(0, 1000))
def test_runs_rebuild_the_data_and_hold_no_zero_block(kinds, tail):
    data = b"".join((kind * BLOCK)[:BLOCK] for kind in kinds) + b"z" * tail
    pieces = list(runs(data, 0)) if data else []
    assert rebuilt(pieces, len(data)) == data
    sent = sum(len(piece) for _offset, piece in pieces)
    assert sent == sum(BLOCK for kind in kinds if kind != b"\0") + tail


class Dribble(io.BytesIO):
    def read(self, size=-1):
        return super().read(min(size, 7001))


def test_streams_are_gathered_into_full_frames():
    data = os.urandom(FRAME + 12345)
    pieces = list(runs_of_stream(Dribble(data), len(data)))
    assert [len(piece) for _offset, piece in pieces] == [FRAME, 12345]
    assert rebuilt(pieces, len(data)) == data


def test_content_that_outgrows_its_size_is_refused():
    with pytest.raises(BadInput, match="larger than the image's SIZE"):
        list(runs_of_stream(io.BytesIO(b"x" * 2000), 1999))


def test_files_are_read_around_their_holes(tmp_path):
    path = tmp_path / "sparse"
    with open(path, "wb") as stream:
        stream.truncate(1 << 33)
        stream.seek(5 << 30)
        stream.write(b"data" * 20000)
    pieces = list(runs_of_file(str(path)))
    assert sum(len(data) for _offset, data in pieces) < 1 << 20
    assert pieces[0][0] == 5 << 30


class FakeSession:
    """Takes writes; the flush fails when told to."""

    def __init__(self, error=None):
        self.data = bytearray(1 << 20)
        self.error = error
        self.calls = []
        self.packed = 0

    def send(self, op, args, payload=b""):
        assert op == "write"
        assert args["quiet"] is True
        assert args["length"] == len(payload)
        data = zlib.decompress(payload) if "packed" in args else bytes(payload)
        assert args.get("packed", len(data)) == len(data)
        self.packed += "packed" in args
        self.data[args["offset"] : args["offset"] + len(data)] = data

    def call(self, op, **args):
        self.calls.append(op)
        if self.error:
            raise self.error


def test_a_flush_ends_every_import():
    session, caller = FakeSession(), TestCaller()
    send(session, "one-1", iter([(10, b"abc"), (500, b"d")]), Progress(caller.log, "one-1", 1 << 20))
    assert session.data[10:13] == b"abc"
    assert session.calls == ["flush"]
    assert "one-1: 1 MiB in" in caller.logged
    with pytest.raises(DncError, match="disk died"):
        send(FakeSession(DncError("disk died")), "one-1", iter([(0, b"x")]), Progress(caller.log, "one-1", 1 << 20))


@pytest.mark.parametrize(("link", "wanted"), [(1e6, True), (1e12, False)])
def test_a_slow_link_gets_compressed_pieces_and_a_fast_one_does_not(link, wanted):
    """Bytes a second of the link; compressing takes 10 ns a byte here."""
    packer, data = Packer(), b"text that shrinks " * 1000
    ways = []
    for _ in range(3 * Packer.AGAIN):
        packed = packer.pack(data)
        ways.append(packed is not None)
        seconds = len(packed) / link + len(data) * 1e-8 if packed is not None else len(data) / link
        packer.took(seconds, len(data))
    decided = [way for turn, way in enumerate(ways) if turn % Packer.AGAIN >= 2 * Packer.TRY]
    assert set(decided) == {wanted}
    assert ways[: 2 * Packer.TRY] == [False] * Packer.TRY + [True] * Packer.TRY


def test_what_does_not_shrink_goes_as_it_is():
    packer, noise = Packer(), os.urandom(4096)
    for _ in range(2 * Packer.TRY):
        assert packer.pack(noise) is None
        packer.took(0.001, len(noise))


def test_compressed_pieces_arrive_whole():
    session, caller = FakeSession(), TestCaller()
    pieces = [(turn * 4096, bytes([65 + turn % 20]) * 4096) for turn in range(40)]
    send(session, "one-1", iter(pieces), Progress(caller.log, "one-1", 1 << 20))
    assert session.data[: 40 * 4096] == b"".join(data for _, data in pieces)
    assert session.packed >= Packer.TRY
