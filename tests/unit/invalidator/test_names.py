"""Names, slots, and what a namespace is called in Redis."""

import enum
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from invalidator.errors import InvalidName, InvalidSetting
from invalidator.names import (
    MAX_NAME_BYTES,
    Tag,
    check_key,
    check_namespace,
    check_tag,
    check_tags,
    fingerprint,
    key_slot,
    name_slots,
    redis_names,
    tag,
    tag_slot,
)


class TestWhatANameMayBe:
    @pytest.mark.parametrize(
        ("bad", "says"),
        [
            ("", "must not be empty"),
            (42, "must be a str, not int: 42"),
            (b"product:42", "must be a str, not bytes"),
            (None, "must be a str, not NoneType"),
            ("k" * 513, "may have 512 bytes of UTF-8, this one has 513"),
            ("é" * 257, "this one has 514"),
            ("\ud800", "without lone surrogates"),
            ("k\udfff" * 3, "without lone surrogates"),
        ],
    )
    @pytest.mark.parametrize(("check", "kind"), [(check_key, "key"), (check_tag, "tag")])
    def test_a_bad_name_is_refused_with_a_reason(self, check, kind, bad, says) -> None:
        """The message names what is wrong and what would be right."""
        with pytest.raises(InvalidName, match=says) as caught:
            check(bad)
        assert str(caught.value).startswith(f"a {kind} ")
        assert isinstance(caught.value, ValueError)

    @pytest.mark.parametrize("name", ["k", "k" * 512, "é" * 256, "😀" * 128, " ", "\x00", "a b\nc", "{}"])
    def test_any_other_string_is_a_name(self, name) -> None:
        """Spaces, control characters and whole sentences included: only the length is limited, in bytes."""
        assert check_key(name) == name
        assert check_tag(name) == name

    @pytest.mark.parametrize("check", [check_key, check_tag, lambda name: tag(name).name])
    def test_a_string_of_another_kind_is_its_text(self, check) -> None:
        """A member of an enum, a string that templates trust: str itself is what can be sent."""

        class Trusted(str):
            __slots__ = ()

            def __str__(self) -> str:
                return self  # as Django's SafeString does

        class Status(enum.StrEnum):
            SOLD_OUT = "sold-out"

        assert (check(Trusted("shop")), type(check(Trusted("shop")))) == ("shop", str)
        assert (check(Status.SOLD_OUT), type(check(Status.SOLD_OUT))) == ("sold-out", str)

    @given(st.text())
    def test_the_limit_is_in_bytes_for_every_string(self, name) -> None:
        """The short cut that avoids encoding agrees with encoding."""
        try:
            check_key(name)
        except InvalidName:
            fits = False
        else:
            fits = True
        assert fits == (0 < len(name.encode()) <= MAX_NAME_BYTES)

    def test_a_tag_object_is_checked_when_it_is_made(self) -> None:
        """The error appears where the mistake is, not where the tag is used."""
        with pytest.raises(InvalidName, match="a tag must not be empty"):
            tag("")
        assert str(tag("prices")) == "prices"
        assert check_tag(tag("prices")) == "prices"


class TestTags:
    @pytest.mark.parametrize("lone", ["prices", b"prices", tag("prices")])
    def test_a_lone_tag_is_refused(self, lone) -> None:
        """A string is an iterable of letters: tags="prices" would mean six tags, and "prices" would not be one."""
        with pytest.raises(InvalidName, match="for one tag write tags="):
            check_tags(lone)

    @pytest.mark.parametrize("bad", [42, None, 1.5])
    def test_what_is_no_collection_is_refused(self, bad) -> None:
        with pytest.raises(InvalidName, match="must be a list, tuple or set of strings"):
            check_tags(bad)

    def test_a_bad_tag_among_good_ones_is_refused(self) -> None:
        with pytest.raises(InvalidName, match="must be a str, not int"):
            check_tags(["prices", 42])

    def test_tags_come_back_once_and_in_order(self) -> None:
        """From any iterable, a generator included, which can be read only once."""
        assert check_tags(name for name in ["b", Tag("a"), "b"]) == ("b", "a")
        assert check_tags([]) == check_tags(()) == ()
        assert check_tags({"only"}) == ("only",)


class TestSlots:
    def test_slots_are_the_same_for_ever(self) -> None:
        """They are part of the ledger's file format: two versions on one host must agree."""
        assert [key_slot(name, 2**17) for name in ("product:42", "é", "k")] == [29463, 94108, 110140]
        assert [tag_slot(name, 2**17) for name in ("product:42", "é", "k")] == [79109, 48491, 99417]
        assert fingerprint("shop") == 3032650122742602627

    def test_a_key_and_a_tag_of_one_spelling_fall_apart(self) -> None:
        """Invalidating the tag "product" must not void the key "product"."""
        assert key_slot("product", 2**17) != tag_slot("product", 2**17)

    @given(st.text(min_size=1), st.integers(64, 2**32))
    def test_a_slot_is_one_of_the_table(self, name, slots) -> None:
        assert 0 <= key_slot(name, slots) < slots
        assert 0 <= tag_slot(name, slots) < slots

    @pytest.mark.parametrize("slot", [key_slot, tag_slot])
    def test_similar_names_spread(self, slot) -> None:
        """Ten thousand numbered keys in a thousand slots: no slot gets four times its share."""
        share = Counter(slot(f"product:{number}", 1000) for number in range(10_000))
        assert max(share.values()) < 40
        assert len(share) > 990

    def test_all_names_of_a_message_have_their_slots(self) -> None:
        assert name_slots(["a", "b"], ["a"], 128) == (key_slot("a", 128), key_slot("b", 128), tag_slot("a", 128))

    @given(st.text())
    def test_a_fingerprint_fits_into_a_word(self, text) -> None:
        """Words are signed 64-bit integers."""
        assert 0 <= fingerprint(text) < 2**63

    def test_fingerprints_tell_texts_apart(self) -> None:
        """All 63 bits matter, not only one half's 32."""
        prints = {fingerprint(f"run-{number}") for number in range(10_000)}
        assert len(prints) == 10_000
        assert len({value & 0x7FFF_FFFF for value in prints}) > 9_990
        assert len({value >> 31 for value in prints}) > 9_990


class TestNamespaces:
    def test_redis_names_share_one_cluster_slot(self) -> None:
        """The braces are literal: what stands between them decides the slot."""
        assert redis_names("shop") == (
            "invalidator:{shop}:journal",
            "invalidator:{shop}:epoch",
            "invalidator:{shop}:holds",
            "invalidator:{shop}:messages",
        )

    @pytest.mark.parametrize("bad", ["", "a b", "{shop}", "shop\n", "é", "a/b", "x" * 65, None, 7, b"shop", "*"])
    def test_a_bad_namespace_is_refused(self, bad) -> None:
        """It becomes part of Redis keys, ACL patterns and file names."""
        with pytest.raises(InvalidSetting, match="namespace must be 1-64 letters"):
            check_namespace(bad)

    @pytest.mark.parametrize("good", ["shop", "shop:staging", "a.b-c_d:E9", "x" * 64])
    def test_a_good_one_is_taken(self, good) -> None:
        assert check_namespace(good) == good
