"""Several values under one name."""

from invalidator.variants import Variants, is_variant, name_of, variant_of, within


def test_a_variant_has_the_name_of_its_key() -> None:
    one = variant_of("page:1", "7")
    assert is_variant(one)
    assert name_of(one) == name_of(variant_of(one, "x")) == "page:1"
    assert not is_variant("page:1")
    assert name_of("page:1") == "page:1"


def test_variants_of_other_parts_are_others() -> None:
    keys = {
        "k",
        variant_of("k", "1"),
        variant_of("k", "2"),
        variant_of("k", "1", "2"),
        variant_of("k", "12"),
        variant_of("k1", "2"),
    }
    assert len(keys) == 6
    assert variant_of("k") == "k"
    assert variant_of(variant_of("k", "1"), "2") == variant_of("k", "1", "2")


def test_a_part_comes_between_the_name_and_what_a_variant_has() -> None:
    assert within("k", "tenant") == variant_of("k", "tenant")
    assert within(variant_of("k", "7"), "tenant") == variant_of("k", "tenant", "7")


def test_only_strings_can_be_variants() -> None:
    """The keys of `AnyKeyCache` are any values."""
    assert not is_variant(7)
    assert not is_variant(("k",))


class TestVariants:
    def test_they_are_found_by_each_key_that_they_are_variants_of(self) -> None:
        stored = Variants()
        keys = [variant_of("k", "a", "1"), variant_of("k", "a", "2"), variant_of("k", "b"), variant_of("other", "a")]
        for key in keys:
            stored.add(key)
            stored.add(key)
        assert stored.of("k") == tuple(keys[:3])
        assert stored.of(variant_of("k", "a")) == tuple(keys[:2])
        assert stored.of("other") == (keys[3],)
        assert stored.of("nothing") == stored.of(keys[0]) == ()
        assert "k" in stored
        assert keys[0] not in stored

    def test_nothing_is_left_of_those_that_are_gone(self) -> None:
        stored = Variants()
        keys = [variant_of("k", "a", str(number)) for number in range(3)]
        for key in keys:
            stored.add(key)
        stored.discard(variant_of("k", "a", "9"))
        for key in keys:
            assert key in stored.of("k")
            stored.discard(key)
            assert key not in stored.of("k")
        stored.add(keys[0])
        stored.discard(variant_of("k", "a", "9"))
        stored.discard(keys[0])
        assert stored._stored == {}
