"""The wire's words: any bytes decode or raise InvalidMessage, and nothing that is written is unreadable."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from invalidator.errors import InvalidMessage, InvalidName
from invalidator.message import (
    MAX_BODY_BYTES,
    MAX_HOLD_MS,
    MAX_PAYLOAD_BYTES,
    VERSION,
    Body,
    bodies,
    clear_body,
    decode,
    encode,
    hold_bodies,
    open_envelope,
    release_bodies,
    seal_envelope,
)
from invalidator.names import check_key, name_slots


def is_name(text: str) -> bool:
    try:
        check_key(text)
    except InvalidName:
        return False
    return True


names = st.text(min_size=1, max_size=512).filter(is_name)
texts = st.text(st.characters(codec=None, exclude_categories=()))  # lone surrogates included
near_messages = st.dictionaries(
    st.sampled_from(["v", "op", "node", "keys", "tags", "more"]),
    st.none() | st.booleans() | st.integers() | texts | st.lists(texts | st.integers(), max_size=3),
).map(lambda fields: json.dumps({"v": 1, **fields}).encode())


def decoded(data: bytes) -> Body | None:
    """The body in *data*; None if it is refused as it should be."""
    try:
        body = decode(data)
    except InvalidMessage:
        return None
    name_slots(body.keys, body.tags, 64)  # whatever was accepted can be applied
    assert body.v == VERSION
    return body


class TestDecoding:
    @given(st.binary())
    @example(b"")
    @example(b"null")
    @example(b"\xff\xfe")
    @example(b'{"v":1,"keys":["\xed\xa0\x80"]}')
    @example(rb'{"v":1,"keys":["\ud800"]}')
    @example(rb'{"v":1,"keys":["\udfff\ud800"]}')
    @example(b'{"v":1,"x":' + b"[" * 60_000)
    @example(b'{"v":1,"keys":"abc"}')
    @example(b'{"v":1e999}')
    def test_any_bytes_decode_or_are_refused(self, data) -> None:
        """Never another exception: it would end the listener's connection."""
        decoded(data)

    @given(near_messages)
    def test_any_json_decodes_or_is_refused_and_what_decodes_can_be_applied(self, data) -> None:
        """Names that cannot be hashed into slots (lone surrogates) must not come through."""
        decoded(data)

    @pytest.mark.parametrize("version", [0, 2, -1, 2**70])
    def test_an_unknown_version_is_refused(self, version) -> None:
        """It could have been an invalidation: whoever reads it flushes."""
        with pytest.raises(InvalidMessage, match=r"^unknown version: "):
            decode(b'{"v":%d,"keys":["a"]}' % version)

    @pytest.mark.parametrize("data", [b'{"v":1,"op":"forget"}', b'{"v":1,"op":7}', b'{"keys":["a"]}', b"[]"])
    def test_what_is_no_message_of_ours_is_refused(self, data) -> None:
        with pytest.raises(InvalidMessage, match=r"^malformed: "):
            decode(data)

    def test_unknown_fields_are_ignored(self) -> None:
        """A fleet is upgraded one host at a time."""
        assert decode(b'{"v":1,"keys":["a"],"since":{"next":[1,2]}}') == Body(v=1, keys=("a",))

    def test_what_is_oversized_is_refused_unread(self) -> None:
        """Nobody makes us parse a gigabyte."""
        fits = b'{"v":1}'.ljust(MAX_PAYLOAD_BYTES)
        assert decode(fits) == Body(v=1)
        with pytest.raises(InvalidMessage, match=r"^oversized: "):
            decode(fits + b" ")

    @pytest.mark.parametrize("for_ms", [-1, MAX_HOLD_MS + 1, 2**70])
    def test_a_hold_without_end_is_refused(self, for_ms) -> None:
        """Nobody can keep a name out of all caches for ever."""
        with pytest.raises(InvalidMessage):
            decode(b'{"v":1,"op":"hold","owner":"me","keys":["a"],"for_ms":%d}' % for_ms)

    @pytest.mark.parametrize("keys", ['[""]', '["%s"]' % ("k" * 513), "[1]", "[null]", '"k"', "{}"])
    def test_names_that_cannot_be_are_refused(self, keys) -> None:
        with pytest.raises(InvalidMessage):
            decode(b'{"v":1,"keys":%s}' % keys.encode())


class TestRoundTrip:
    @given(
        op=st.sampled_from(["invalidate", "clear", "hold", "release", "epoch"]),
        owner=st.text(max_size=20),
        for_ms=st.integers(0, MAX_HOLD_MS),
        node=st.text(max_size=20),
        keys=st.lists(names, max_size=5).map(tuple),
        tags=st.lists(names, max_size=5).map(tuple),
    )
    def test_what_is_encoded_decodes_to_the_same(self, op, node, owner, for_ms, keys, tags) -> None:
        body = Body(v=VERSION, op=op, node=node, owner=owner, for_ms=for_ms, keys=keys, tags=tags)
        assert decode(encode(body)) == body

    def test_the_usual_message_is_compact(self) -> None:
        """Defaults are left out. This is docs/wire-protocol.md, byte by byte: other languages read it."""
        assert encode(Body(v=1, node="n1", keys=("a",))) == b'{"v":1,"node":"n1","keys":["a"]}'
        assert clear_body("n1") == b'{"v":1,"op":"clear","node":"n1"}'


class TestChunks:
    @given(keys=st.lists(names, max_size=200), tags=st.lists(names, max_size=100), node=st.text(max_size=20))
    @example(keys=["\x00" * 512] * 20, tags=["\x1f" * 512] * 20, node="n")
    @example(keys=['"\\' * 256] * 50, tags=["😀" * 128] * 50, node="n")
    @example(keys=["k"] * 10_000, tags=[], node="")
    def test_every_chunk_is_small_and_no_name_is_lost(self, keys, tags, node) -> None:
        """Escapes count: a name of 512 control characters takes 3 KiB on the wire."""
        chunks = list(bodies(node, keys, tags))
        read = list(map(decode, chunks))
        assert all(len(chunk) <= MAX_BODY_BYTES for chunk in chunks)
        assert [key for body in read for key in body.keys] == keys
        assert [tag for body in read for tag in body.tags] == tags
        assert all(body.node == node and body.op == "invalidate" and (body.keys or body.tags) for body in read)

    @given(keys=st.lists(names, max_size=50), tags=st.lists(names, max_size=50))
    def test_holds_and_releases_are_chunked_alike(self, keys, tags) -> None:
        """Each chunk names the owner and the time: it stands for itself."""
        for op, chunks in (
            ("hold", hold_bodies("n", "me", 500, keys, tags)),
            ("release", release_bodies("n", "me", keys, tags)),
        ):
            read = list(map(decode, chunks))
            assert all(len(chunk) <= MAX_BODY_BYTES for chunk in chunks)
            assert {(body.op, body.owner, body.for_ms) for body in read} <= {(op, "me", 500 if op == "hold" else 0)}
            assert [key for body in read for key in body.keys] == keys
            assert [tag for body in read for tag in body.tags] == tags

    def test_few_names_are_one_message(self) -> None:
        """One transaction, one message."""
        assert list(bodies("n", ["a", "b"], ["t"])) == [b'{"v":1,"node":"n","keys":["a","b"],"tags":["t"]}']

    def test_no_names_are_no_message(self) -> None:
        assert list(bodies("n", [], [])) == []

    def test_chunks_are_filled(self) -> None:
        """Ten thousand names are dozens of messages, not thousands."""
        chunks = list(bodies("n", [f"product:{number:05}" for number in range(10_000)], ()))
        assert all(len(chunk) > MAX_BODY_BYTES * 0.95 for chunk in chunks[:-1])


class TestEnvelopes:
    @given(st.binary())
    @example(b"1-0 0-1")
    @example(b"1-0  {}")
    @example(b"99999999999999999999-0 1-0 {}")
    def test_any_payload_opens_or_is_refused(self, payload) -> None:
        try:
            envelope = open_envelope(payload)
        except InvalidMessage:
            return
        if envelope.id:
            assert seal_envelope(*envelope).rstrip() == payload.rstrip()
        else:
            assert envelope == ("", "", payload)

    @given(
        id=st.from_regex(r"[0-9]{1,18}-[0-9]{1,18}", fullmatch=True),
        predecessor=st.from_regex(r"[0-9]{1,18}-[0-9]{1,18}", fullmatch=True),
        body=st.binary(),
    )
    def test_what_is_sealed_opens_to_the_same(self, id, predecessor, body) -> None:
        """Spaces inside the body stay inside the body."""
        assert open_envelope(seal_envelope(id, predecessor, body)) == (id, predecessor, body)

    def test_a_bare_body_has_no_id(self) -> None:
        """A PUBLISH typed into redis-cli is applied, but nobody can replay it."""
        assert open_envelope(b'{"v":1}') == ("", "", b'{"v":1}')

    @pytest.mark.parametrize("id", [f"{2**63}-0", f"0-{2**63}", f"{10**19}-0", f"{2**64}-0"])
    def test_an_id_that_no_ledger_can_hold_is_refused(self, id) -> None:
        """
        A position is two signed words. One message with a larger id would end every later connection: the ledger
        cannot record it, and Redis does not read after it.
        """
        with pytest.raises(InvalidMessage):
            open_envelope(seal_envelope(id, "1-0", b"{}"))
        with pytest.raises(InvalidMessage):
            open_envelope(seal_envelope("1-0", id, b"{}"))
