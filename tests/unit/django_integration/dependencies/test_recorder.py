"""What one loader reads, and declares that it depends on."""

import sys
import warnings

import pytest
from django.db import models
from django.test.utils import isolate_apps

from django_integration import UnknownReads, depends_on, tag
from django_integration.dependencies import recorder as recorders
from django_integration.dependencies.recorder import MAX_NAMES, Recorder, current, recording
from invalidator import Entry, InvalidName, Loaded
from tests.unit.django_integration.zoo.models import Animal, Cage, Food, Pet


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(autouse=True)
def no_warning_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_warned", set())


def test_a_table_is_its_models_tag(recorder: Recorder) -> None:
    recorder.read_table(Cage)
    recorder.read_table(Pet)
    assert list(recorder.tags()) == ["zoo.cage", "zoo.animal"]


def test_names_of_rows_bring_the_tag_of_unknown_rows(recorder: Recorder) -> None:
    assert recorder.read_names(Animal, ["zoo.animal:1"])
    assert recorder.read_names(Animal, ["zoo.animal:2"])
    assert list(recorder.tags()) == ["zoo.animal:*", "zoo.animal:1", "zoo.animal:2"]


def test_no_rows_are_waited_for_all_the_same(recorder: Recorder) -> None:
    assert recorder.read_names(Cage, [])
    assert list(recorder.tags()) == ["zoo.cage:*"]


def test_a_table_stands_for_its_rows_whichever_comes_first(recorder: Recorder) -> None:
    recorder.read_names(Cage, ["zoo.cage:1"])
    recorder.read_table(Cage)
    recorder.read_table(Food)
    assert not recorder.read_names(Food, ["zoo.food:1"])
    assert list(recorder.tags()) == ["zoo.cage", "zoo.food"]


def test_many_names_become_the_table(recorder: Recorder) -> None:
    assert recorder.read_names(Cage, [f"zoo.cage:{pk}" for pk in range(MAX_NAMES)])
    assert not recorder.read_names(Cage, ["zoo.cage:more"])
    assert list(recorder.tags()) == ["zoo.cage"]


def test_a_value_gets_everything_besides_what_it_brings(recorder: Recorder) -> None:
    recorder.read_table(Cage)
    part, own = (Entry(None, loaded_at=1, slots=()) for _ in range(2))
    recorder.read_entry(part)
    recorder.read_entry(part)
    loaded = recorder.loaded(Loaded("value", ttl=5, tags=["own"], made_from=[own]))
    assert (loaded.value, loaded.ttl) == ("value", 5)
    assert loaded.tags == ("own", "zoo.cage")
    assert loaded.made_from == (own, part)
    assert recorder.loaded("bare").value == "bare"


class TestDependsOn:
    def test_it_adds_models_rows_and_tags(self, recorder: Recorder) -> None:
        with recording(recorder):
            depends_on(Cage, Food(pk=7), tag("prices"))
        assert set(recorder.tags()) == {"zoo.cage", "zoo.food:7", "zoo.food:*", "prices"}

    def test_outside_it_does_nothing(self) -> None:
        depends_on(Cage)
        assert current() is None

    @pytest.mark.parametrize("target", ["prices", 7, None])
    def test_anything_else_is_refused_in_and_out(self, target: object) -> None:
        with pytest.raises(TypeError, match=r"tag\('prices'\)"):
            depends_on(target)  # type: ignore[arg-type]

    def test_a_row_without_a_key_is_refused(self) -> None:
        with pytest.raises(InvalidName, match="save it first"):
            depends_on(Cage())


class TestErrors:
    def test_who_catches_an_error_has_read_what_led_to_it(self, recorder: Recorder) -> None:
        inner, error = Recorder(), LookupError("none")
        inner.read_names(Cage, ["zoo.cage:1"])
        inner.read_table(Food)
        inner.declare(tag("t"))
        with pytest.raises(LookupError), recording(inner):
            raise error
        recorder.caught(error)
        assert set(recorder.tags()) == {"zoo.cage:*", "zoo.cage:1", "zoo.food", "t"}
        assert recorder.loaded(None).ttl != 0

    def test_an_error_of_an_older_load_keeps_the_value_out(self) -> None:
        """It was read before this loader began: it is not known what was invalidated in between."""
        older, error = Recorder(), LookupError("none")
        with pytest.raises(LookupError), recording(older):
            raise error
        recorder = Recorder()
        recorder.caught(error)
        assert recorder.loaded(None).ttl == 0

    def test_an_error_that_was_not_recorded_does_so_too(self, recorder: Recorder) -> None:
        recorder.caught(LookupError("none"))
        assert recorder.loaded(None).ttl == 0

    def test_an_error_keeps_the_first_that_saw_it(self) -> None:
        outer, inner, error = Recorder(), Recorder(), LookupError("none")
        with pytest.raises(LookupError), recording(outer), recording(inner):
            raise error
        assert error._invalidator_reads is inner  # type: ignore[attr-defined]


class TestWarnings:
    def test_what_is_not_known_is_warned_of_once_for_each_place(self) -> None:
        def load() -> None:
            recorder = Recorder()
            recorder.read_unknown("raw SQL", sys._getframe())
            recorder.loaded(None)

        with pytest.warns(UnknownReads, match=r"test_recorder.py:\d+: raw SQL .* depends_on"):
            load()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load()

    def test_a_loader_that_declares_it_is_not_warned(self, recorder: Recorder) -> None:
        recorder.read_unknown("raw SQL", None)
        recorder.declare(Cage)
        recorder.loaded(None)

    def test_models_that_are_not_watched_are_named(self, recorder: Recorder) -> None:
        """They are carried all the same: they can be invalidated by hand."""
        with isolate_apps("tests.unit.django_integration.zoo"):

            class Session(models.Model):
                class Meta:
                    app_label = "sessions"

                def __str__(self) -> str:
                    return "a session"

        recorder.read_table(Session)
        with pytest.warns(UnknownReads, match="sessions.Session .* invalidate"):
            assert recorder.loaded(None).tags == ["sessions.session"]

    def test_they_are_bounded(self, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recorders, "MAX_WARNINGS", 1)
        recorder.read_unknown("a", None)
        recorder.read_unknown("b", None)
        with pytest.warns(UnknownReads) as warned:
            recorder.loaded(None)
        assert len(warned) == 1
