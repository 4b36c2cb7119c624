"""Batches into both databases: idempotent, in any order, whatever the values are."""

import json
import logging
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recorder.codec import (
    AlarmHeard,
    DecisionHeard,
    DocumentHeard,
    Gap,
    Item,
    StatusHeard,
    Telemetry,
    read,
)
from recorder.records import AGAIN, RETAINED
from recorder.spread import as_text, guess
from recorder.store import Store
from sunmesh import vocabulary
from sunmesh.database.sql import DatabaseError
from sunmesh.messages import RENEWED, Alarm, Command, Result, Status, encode
from sunmesh.vocabulary import Kind

from .conftest import T0, iso, rows, samples

Stores = Callable[..., Store]


def sample(ms: int, values: dict[str, Any], quality: dict[str, str] | None = None) -> Telemetry:
    return Telemetry("inverter", ms, values, quality or {})


def latest(url: str) -> dict[str, tuple[Any, ...]]:
    found = rows(
        url,
        "SELECT name, ts, value, text, quality FROM latest JOIN series ON series.id = series_id",
    )
    return {row[0]: row[1:] for row in found}


def states(url: str, name: str = "device_mode") -> list[tuple[int, str]]:
    return rows(  # type: ignore[return-value]
        url,
        "SELECT ts, value FROM state JOIN series ON series.id = series_id"
        f" WHERE name = '{name}' ORDER BY ts",
    )


def test_every_sort_of_value_finds_its_place(url: str, stores: Stores) -> None:
    values = {
        "pv_power_w": 1200,
        "pv_energy_total_kwh": 1234.5,
        "device_mode": "battery",
        "warnings": ["a", "b"],
        "charge_mosfet_on": True,
        "cell_voltage_v": [3.301, None, 3.303],
        "grid_voltage_v": None,
    }
    written = stores(url).write([sample(T0, values)])
    assert (written.samples, written.states) == (4, 3)
    assert samples(url) == {
        ("pv_power_w", T0, 1200.0),
        ("pv_energy_total_kwh", T0, 1234.5),
        ("cell_voltage_v/1", T0, 3.301),
        ("cell_voltage_v/3", T0, 3.303),
    }
    assert states(url) == [(T0, "battery")]
    assert states(url, "warnings") == [(T0, "a,b")]
    assert states(url, "charge_mosfet_on") == [(T0, "true")]
    assert latest(url)["device_mode"] == (T0, None, "battery", None)
    assert set(rows(url, "SELECT name, unit, kind FROM series")) >= {
        ("pv_power_w", "W", "gauge"),
        ("pv_energy_total_kwh", "kWh", "counter"),
        ("cell_voltage_v/3", "V", "list"),
        ("device_mode", "", "state"),
    }


def test_the_same_batch_twice_changes_nothing(url: str, stores: Stores) -> None:
    batch: list[Item] = [
        sample(T0 + n * 5000, {"pv_power_w": n, "device_mode": "line" if n % 3 else "battery"})
        for n in range(30)
    ]
    store = stores(url)
    first = store.write(batch)
    before = (samples(url), states(url), latest(url))
    assert first.samples == 30
    for again in (store, stores(url)):
        assert again.write(batch).rows == 0
        assert again.write(batch[::-1]).rows == 0
        assert again.write(batch[7:9]).rows == 0
    assert (samples(url), states(url), latest(url)) == before


def test_the_first_value_of_a_moment_stays(url: str, stores: Stores) -> None:
    store = stores(url)
    store.write([sample(T0, {"pv_power_w": 1.0, "device_mode": "line"})])
    store.write([sample(T0, {"pv_power_w": 2.0, "device_mode": "battery"})])
    assert samples(url) == {("pv_power_w", T0, 1.0)}
    assert states(url) == [(T0, "line")]
    assert latest(url)["pv_power_w"][1] == 1.0


def test_latest_moves_forward_only(url: str, stores: Stores) -> None:
    store = stores(url)
    store.write([sample(T0 + 10, {"pv_power_w": 10.0})])
    store.write([sample(T0 + 5, {"pv_power_w": 5.0}), sample(T0 + 7, {"pv_power_w": 7.0})])
    assert latest(url)["pv_power_w"] == (T0 + 10, 10.0, None, None)
    assert len(samples(url)) == 3
    store.write([sample(T0 + 11, {"pv_power_w": 11.0})])
    assert latest(url)["pv_power_w"] == (T0 + 11, 11.0, None, None)


def test_null_and_stale_are_no_samples_but_the_latest_says_so(url: str, stores: Stores) -> None:
    store = stores(url)
    names = {"pv_power_w": 5.0, "pv_energy_total_kwh": 9.0, "cell_voltage_v": [3.3, 3.4]}
    store.write([sample(T0, names | {"device_mode": "line"})])
    lost = {"pv_power_w": None, "pv_energy_total_kwh": 9.0, "cell_voltage_v": None}
    store.write([sample(T0 + 1, lost | {"device_mode": None}, {"pv_energy_total_kwh": "stale"})])
    assert {ts for _name, ts, _value in samples(url)} == {T0}
    assert states(url) == [(T0, "line")]
    assert latest(url) == {
        "pv_power_w": (T0 + 1, None, None, None),
        "pv_energy_total_kwh": (T0 + 1, 9.0, None, "stale"),
        "cell_voltage_v/1": (T0 + 1, None, None, None),
        "cell_voltage_v/2": (T0 + 1, None, None, None),
        "device_mode": (T0 + 1, None, None, None),
    }


def test_half_of_a_group_is_no_sample(url: str, stores: Stores) -> None:
    stores(url).write([sample(T0, {"battery_power_w": 300.0}, {"battery_power_w": "partial"})])
    assert samples(url) == set()
    assert latest(url) == {"battery_power_w": (T0, 300.0, None, "partial")}


def test_suspect_is_stored_and_marked(url: str, stores: Stores) -> None:
    marks = {"pv_power_w": "suspect", "cell_voltage_v/2": "suspect"}
    stores(url).write([sample(T0, {"pv_power_w": 9e5, "cell_voltage_v": [3.3, 9.9]}, marks)])
    assert ("pv_power_w", T0, 9e5) in samples(url)
    assert latest(url)["pv_power_w"][3] == "suspect"
    assert latest(url)["cell_voltage_v/1"][3] is None
    assert latest(url)["cell_voltage_v/2"][3] == "suspect"


def test_a_late_state_is_put_between_its_neighbours(url: str, stores: Stores) -> None:
    store = stores(url)

    def mode(second: int, word: str) -> None:
        store.write([sample(T0 + second * 1000, {"device_mode": word})])

    mode(1, "line")
    mode(9, "line")  # holds; not stored
    mode(5, "battery")  # late, and line was seen again at 9
    assert states(url) == [(T0 + 1000, "line"), (T0 + 5000, "battery"), (T0 + 9000, "line")]
    mode(6, "battery")
    mode(3, "line")
    mode(9, "line")
    assert len(states(url)) == 3
    mode(0, "standby")
    mode(7, "standby")
    assert [word for _ts, word in states(url)] == [
        "standby", "line", "battery", "standby", "line"
    ]  # fmt: skip


def test_the_end_of_a_state_is_known_to_a_new_recorder(url: str, stores: Stores) -> None:
    stores(url).write([sample(T0 + n, {"device_mode": "line"}) for n in (0, 5, 9)])
    store = stores(url)
    store.write([sample(T0 + 4, {"device_mode": "battery"})])
    assert states(url) == [(T0, "line"), (T0 + 4, "battery"), (T0 + 9, "line")]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    words=st.lists(st.sampled_from("abc"), min_size=1, max_size=12),
    data=st.data(),
)
def test_states_in_any_order(
    sqlite_url: str, stores: Stores, words: list[str], data: st.DataObject
) -> None:
    """Whatever the order: only true observations are stored, and the end is right.

    In order, with replays of what came already, exactly the changes are stored.
    """
    test_states_in_any_order.count = count = (  # type: ignore[attr-defined]
        getattr(test_states_in_any_order, "count", 0) + 1
    )
    store = stores(sqlite_url)
    truth = list(enumerate(words, T0))

    def deliver(device: str, seen: list[tuple[int, str]]) -> list[tuple[int, str]]:
        cut = data.draw(st.integers(0, len(seen)))
        for part in (seen[:cut], seen[cut:]):
            store.write([Telemetry(device, ts, {"device_mode": word}, {}) for ts, word in part])
        return rows(
            sqlite_url,
            "SELECT ts, value FROM state JOIN series ON series.id = series_id"
            f" WHERE device = '{device}' ORDER BY ts",
        )

    replayed = truth[: data.draw(st.integers(0, len(truth)))] + truth
    changes = [(ts, word) for n, (ts, word) in enumerate(truth) if n == 0 or words[n - 1] != word]
    assert deliver(f"ordered-{count}", replayed) == changes

    stored = deliver(f"shuffled-{count}", data.draw(st.permutations(truth)))
    assert set(stored) <= set(truth)
    assert stored[0] == truth[0]
    assert stored[-1][1] == truth[-1][1]


def test_device_rows_move_forward_only(url: str, stores: Stores) -> None:
    store = stores(url)

    def info(ms: int, model: str) -> DocumentHeard:
        body = json.dumps({"ts": iso(ms), "family": "axpert", "model": model})
        return DocumentHeard("inverter", ms, "info", body)

    def status(ms: int, state: str, reason: str = "") -> StatusHeard:
        return StatusHeard("inverter", ms, Status(state, iso(ms), reason))  # type: ignore[arg-type]

    store.write([status(T0, "online"), info(T0 + 1, "first")])
    store.write([status(T0 + 5, "offline", "no answer"), info(T0 + 9, "second")])
    store = stores(url)
    store.write([status(T0, "online"), info(T0 + 1, "first")])
    [row] = rows(url, "SELECT name, status, status_since, status_reason, info, updated FROM device")
    assert row[:4] == ("inverter", "offline", T0 + 5, "no answer")
    assert json.loads(row[4])["model"] == "second"
    assert row[5] == T0 + 9
    store.write(
        [DocumentHeard("inverter", T0 + 20, "settings", f'{{"ts":"{iso(T0 + 20)}","values":{{}}}}')]
    )
    assert rows(url, "SELECT status, updated FROM device") == [("offline", T0 + 20)]


def test_alarms_are_stored_once(url: str, stores: Stores) -> None:
    store = stores(url)

    def alarm(ms: int, state: str) -> AlarmHeard:
        message = Alarm("a1", state, "warning", "Hot", "50 °C 🔥", iso(ms))  # type: ignore[arg-type]
        return AlarmHeard("inverter", ms, "too_hot", message)

    batch = [alarm(T0, "raised"), alarm(T0 + 9, "cleared")]
    assert store.write(batch).alarms == 2
    assert store.write(batch).alarms == 0
    assert rows(url, "SELECT code, state, text FROM alarm ORDER BY ts") == [
        ("too_hot", "raised", "50 °C 🔥"),
        ("too_hot", "cleared", "50 °C 🔥"),
    ]


def test_unknown_names_are_guessed_and_said_once(
    url: str, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(url)
    values = {"flux": 1.21, "doors": [1, 2.5], "mood": "fine", "lit": False, "never": None}
    with caplog.at_level(logging.INFO, "recorder"):
        store.write([sample(T0, values)])
        store.write([sample(T0 + 1, values | {"mood": 7})])
    assert set(rows(url, "SELECT name, kind FROM series")) == {
        ("flux", "gauge"),
        ("doors/1", "list"),
        ("doors/2", "list"),
        ("mood", "state"),
        ("lit", "state"),
    }
    assert states(url, "mood") == [(T0, "fine"), (T0 + 1, "7")]
    assert sum("flux is not in the vocabulary" in r.message for r in caplog.records) == 1
    assert sum("not in the vocabulary" in r.message for r in caplog.records) == 4


def test_values_of_the_wrong_type_are_skipped_and_the_rest_is_stored(
    url: str, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(url)
    wrong = {
        "pv_power_w": "a lot",
        "grid_voltage_v": True,
        "cell_voltage_v": [3.3, "x", 10**310],
        "load_power_w": [1.0],
        "bad name; --": 1,
        "x" * 90: 1,
        "device_mode": "y" * 400,
        "battery_voltage_v": 53.2,
    }
    for n in range(2):
        store.write([sample(T0 + n, wrong)])
    assert {(name, value) for name, _ts, value in samples(url)} == {
        ("cell_voltage_v/1", 3.3),
        ("battery_voltage_v", 53.2),
    }
    assert states(url) == [(T0, "y" * 255)]
    assert store.bad_values == 14
    assert sum("pv_power_w" in record.message for record in caplog.records) == 1


def test_numbers_come_back_to_the_last_bit(url: str, stores: Stores) -> None:
    numbers = [0.1, 1 / 3, 53.2, -0.0, 1e-300, 1.7976931348623157e308, 2.0**53 + 2, 1e22, 123456789]
    stores(url).write([sample(T0 + n, {"pv_power_w": value}) for n, value in enumerate(numbers)])
    stored = sorted(samples(url), key=lambda row: row[1])
    assert [value for _name, _ts, value in stored] == numbers


def test_names_differ_by_case(url: str, stores: Stores) -> None:
    stores(url).write([sample(T0, {"Flux": 1.0, "flux": 2.0})])
    assert samples(url) == {("Flux", T0, 1.0), ("flux", T0, 2.0)}


def test_a_mad_publisher_does_not_fill_the_table_of_series(
    url: str, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    store = stores(url, max_series=10)
    store.write([sample(T0, {"pv_power_w": 1.0})])
    for n in range(3):
        store.write([sample(T0 + n, {f"q{n}_{m}": 1.0 for m in range(20)})])
    store.write([sample(T0 + 9, {"pv_power_w": 2.0, "grid_power_w": 1.0})])
    assert rows(url, "SELECT COUNT(*) FROM series") == [(10,)]
    assert ("pv_power_w", T0 + 9, 2.0) in samples(url)
    assert "there are 10 series already" in caplog.text


def test_a_second_writer_finds_the_series_of_the_first(url: str, stores: Stores) -> None:
    one, two = stores(url), stores(url)
    one.write([])
    two.write([])
    one.write([sample(T0, {"pv_power_w": 1.0})])
    two.write([sample(T0 + 1, {"pv_power_w": 2.0, "grid_power_w": 3.0})])
    one.write([sample(T0 + 2, {"grid_power_w": 4.0})])
    assert len(samples(url)) == 4
    assert rows(url, "SELECT COUNT(*) FROM series") == [(2,)]


def test_a_batch_is_stored_whole_or_not_at_all(
    url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(url)
    store.write([sample(T0, {"pv_power_w": 1.0, "device_mode": "line"})])
    good = store._put_latest
    monkeypatch.setattr(store, "_put_latest", good.replace("latest", "no_such_table"))
    batch = [sample(T0 + 1, {"pv_power_w": 2.0, "device_mode": "battery"})]
    with pytest.raises(DatabaseError, match="no_such_table"):
        store.write(batch)
    assert len(samples(url)) == 1
    monkeypatch.setattr(store, "_put_latest", good)
    assert store.write(batch).rows == 2
    assert states(url)[-1] == (T0 + 1, "battery")


def test_a_series_follows_what_the_vocabulary_has_learnt(
    sqlite_url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores(sqlite_url).write([sample(T0, {"flux_kwh": 1.0})])
    learnt = vocabulary.Quantity("flux_kwh", "kWh", Kind.COUNTER, "", "flux")
    monkeypatch.setitem(vocabulary.VOCABULARY, "flux_kwh", learnt)
    stores(sqlite_url).write([])
    assert rows(sqlite_url, "SELECT unit, kind FROM series") == [("kWh", "counter")]


def test_sqlite_waits_for_the_disk(sqlite_url: str, stores: Stores) -> None:
    """Acknowledged is stored, at a power cut too."""
    store = stores(sqlite_url)
    with store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, Kind.GAUGE),
        (0.5, Kind.GAUGE),
        (True, Kind.STATE),
        ("x", Kind.STATE),
        ([1, None], Kind.LIST),
        (["f03"], Kind.STATE),
        ([], None),
        ([None], None),
        (None, None),
    ],
)
def test_the_kind_is_guessed_from_the_value(value: Any, kind: Kind | None) -> None:
    assert guess(value) is kind


@pytest.mark.parametrize(
    ("value", "word"),
    [(True, "true"), (5, "5"), (5.0, "5"), (0.5, "0.5"), ("a", "a"), ([], ""), ([1, "b"], "1,b")],
)
def test_states_as_text(value: Any, word: str) -> None:
    assert as_text(value) == word


def test_samples_of_a_known_shape_are_stored_as_any_other(url: str, stores: Stores) -> None:
    """The short way and the long way come to the same rows."""
    store = stores(url)

    def values(n: int) -> dict[str, Any]:
        return {
            "pv_power_w": n / 3,
            "cycles": n,
            "cell_voltage_v": [3.3 + n, 3.4],
            "device_mode": "line" if n < 5 else "battery",
            "warnings": ["a", "b"],
            "charge_mosfet_on": n % 2 == 0,
            "grid_voltage_v": None if n % 4 == 3 else 230.5,
            "nobody": None,
        }

    items = [sample(T0 + n * 1000, values(n)) for n in range(10)]
    for part in (items[:1], items[1:2], items[2:]):
        store.write(part)
    slow = stores(url)
    same = [
        Telemetry("other", item.ms, item.values, {"nobody": "suspect"}) for item in items
    ]  # a mark of quality always takes the long way
    slow.write(same)
    assert samples(url) == samples(url, "other")
    found = rows(
        url,
        "SELECT name, state.ts, state.value, device FROM state"
        " JOIN series ON series.id = series_id",
    )
    ours = {row[:3] for row in found if row[3] == "inverter"}
    assert ours == {row[:3] for row in found if row[3] == "other"}
    newest = rows(
        url,
        "SELECT name, ts, value, text, device FROM latest JOIN series ON series.id = series_id",
    )
    ours = {row[:4] for row in newest if row[4] == "inverter"}
    assert ours == {row[:4] for row in newest if row[4] == "other"}
    assert ("device_mode", T0 + 9000, None, "battery") in ours
    assert len(store._spreader._shapes["inverter"].plans) >= 2


def test_strange_numbers_in_a_known_shape(url: str, stores: Stores) -> None:
    store = stores(url)
    for n, number in enumerate((1.0, 1e-7, 1e300, 10**17 + 1, 10**299, 5, float("nan"), -0.0)):
        store.write([sample(T0 + n, {"pv_power_w": number, "load_power_w": 2.0})])
        store.write([sample(T0 + n + 50, {"pv_power_w": 7.0, "cell_voltage_v": [number, 3.3]})])
    found = samples(url)
    assert {value for name, ts, value in found if name == "pv_power_w" and ts < T0 + 50} == {
        1.0, 1e-7, 1e300, 1e17, 1e299, 5.0, 0.0
    }  # fmt: skip
    assert sum(name == "load_power_w" for name, _ts, _value in found) == 8
    assert sum(name == "cell_voltage_v/2" for name, _ts, _value in found) == 8
    assert store.bad_values == 2


def test_what_was_there_already_is_not_marked_again(url: str, stores: Stores) -> None:
    store = stores(url)
    store.write([sample(T0, {"pv_power_w": 1.0})])
    marked = rows(url, "SELECT consumer, ts, version FROM dirty")
    assert len(marked) == 2
    store.write([sample(T0, {"pv_power_w": 1.0})])
    assert rows(url, "SELECT consumer, ts, version FROM dirty") == marked


def test_settings_are_stored_when_they_change(url: str, stores: Stores) -> None:
    def heard(second: int, **values: Any) -> DocumentHeard:
        ms = T0 + second * 1000
        body = json.dumps({"ts": iso(ms), "values": values})
        return DocumentHeard("inverter", ms, "settings", body)

    store = stores(url)
    store.write([heard(1, float_voltage_v=54.0, mode="SBU")])
    store.write([heard(5, float_voltage_v=54.0, mode="SBU")])
    store.write([heard(9, float_voltage_v=55.5, mode="SBU", gone=None)])
    batch: list[Item] = [
        heard(5, float_voltage_v=54.0, mode="SBU"),
        heard(1, float_voltage_v=54.0, mode="SBU"),
    ]
    for again in (store, stores(url)):
        again.write(batch)
        again.write([heard(9, float_voltage_v=55.5, mode="SBU")])
    expected = [
        ("float_voltage_v", T0 + 1000, "54.0"),
        ("float_voltage_v", T0 + 9000, "55.5"),
        ("mode", T0 + 1000, '"SBU"'),
    ]
    statement = "SELECT name, ts, value FROM setting ORDER BY name, ts"
    assert rows(url, statement) == expected
    stores(url).write([heard(3, mode="SUB")])  # late, and SBU was seen again at 9
    assert rows(url, statement)[2:] == [
        ("mode", T0 + 1000, '"SBU"'),
        ("mode", T0 + 3000, '"SUB"'),
        ("mode", T0 + 9000, '"SBU"'),
    ]


def test_commands_without_an_id_are_told_apart_from_their_copies(url: str, stores: Stores) -> None:
    def wish(arrival: int, flags: int = 0, value: str = "SBU") -> Item:
        payload = json.dumps({"name": "output_source_priority", "value": value}).encode()
        item = read("sunmesh/home/inverter/command", payload, "home", arrival, flags)
        assert item is not None
        return item

    store = stores(url)
    assert store.write([wish(T0), wish(T0), wish(T0 + 3, AGAIN)]).others == 1
    assert store.write([wish(T0 + 9, AGAIN)]).others == 0  # the broker gave it twice
    assert store.write([wish(T0 + 5000)]).others == 1  # somebody asked twice
    assert store.write([wish(T0 + 5001, AGAIN, "SUB")]).others == 1
    for second in range(3):
        store.write([wish(T0 + second, RETAINED)])
    found = rows(url, "SELECT ts, value, detail, stage FROM command ORDER BY ts, detail")
    assert found == [
        (T0, '"SBU"', "", "requested"),
        (T0, '"SBU"', "retained, so that no device takes it", "requested"),
        (T0 + 5000, '"SBU"', "", "requested"),
        (T0 + 5001, '"SUB"', "", "requested"),
    ]


def test_every_stage_of_a_batch_and_what_went_back_later_has_its_row(
    url: str, stores: Stores
) -> None:
    said = ["b1 accepted", "b1/float_voltage_v sent", "b1/float_voltage_v acknowledged"]
    said += ["b1/float_voltage_v applied", "b1/bulk_voltage_v refused", "b1 failed"]
    said += ["b1/float_voltage_v reverted", "b2 expired", "b3 not_applied"]

    def told(second: int, text: str) -> Item:
        identity, stage = text.split()
        name = identity.partition("/")[2] or "settings"
        body = Result(identity, name, 53.7, stage, iso(T0 + second), "web:anna")  # type: ignore[arg-type]
        item = read("sunmesh/home/inverter/command/result", encode(body), "home", T0, 0)
        assert item is not None
        return item

    values = {"float_voltage_v": 53.7, "bulk_voltage_v": 53.8}
    wish = Command("settings", id="b1", values=values, override="storm tonight", reason="full")
    asked = read("sunmesh/home/inverter/command", encode(wish), "home", T0 - 1, 0)
    assert asked is not None
    batch = [asked, *(told(second, text) for second, text in enumerate(said))]
    assert stores(url).write(batch).others == 10
    assert stores(url).write(batch).others == 0
    found = rows(url, "SELECT id, stage, name, value, by_whom, detail FROM command ORDER BY ts")
    why = "full; over the budget of writes: storm tonight"
    assert found[0] == (
        "b1",
        "requested",
        "settings",
        json.dumps(values, separators=(",", ":")),
        None,
        why,
    )
    assert [f"{identity} {stage}" for identity, stage, *_ in found[1:]] == said
    assert found[4][2:] == ("float_voltage_v", "53.7", "web:anna", "")


def test_a_lease_that_was_only_renewed_leaves_no_row(url: str, stores: Stores) -> None:
    def asked(identity: str, second: int) -> Item:
        wish = Command("relay_position", "grid_open", id=identity, lease_s=180)
        item = read("sunmesh/home/grid-relay/command", encode(wish), "home", T0 + second * 1000, 0)
        assert item is not None
        return item

    def told(identity: str, second: int, detail: str) -> Item:
        body = Result(identity, "relay_position", "grid_open", "applied", iso(T0 + second * 1000))
        item = read(
            "sunmesh/home/grid-relay/command/result",
            encode(msgspec.structs.replace(body, detail=detail)),
            "home",
            T0,
            0,
        )
        assert item is not None
        return item

    store = stores(url)
    opened = [asked("one", 0), told("one", 1, "open for 180 s")]
    assert store.write([*opened, asked("two", 60), told("two", 61, RENEWED)]).others == 2
    assert store.write([asked("three", 120)]).others == 1
    again = [told("three", 121, RENEWED), asked("four", 180), told("four", 181, RENEWED)]
    for _ in range(2):
        assert store.write(again).others == 0
    store.write([asked("three", 120), *again])  # all of it comes once more
    assert rows(url, "SELECT id, stage FROM command ORDER BY ts") == [
        ("one", "requested"),
        ("one", "applied"),
    ]


def test_decisions_are_stored_when_they_change(url: str, stores: Stores) -> None:
    def decided(second: int, wanted: str) -> DecisionHeard:
        ms = T0 + second * 1000
        return DecisionHeard("night", ms, json.dumps({"ts": iso(ms), "wanted": wanted}))

    batch: list[Item] = [decided(1, "open"), decided(2, "open"), decided(3, "shut")]
    assert stores(url).write(batch).others == 2
    assert stores(url).write(batch).others == 0
    assert stores(url).write([decided(2, "open")]).others == 0
    assert rows(url, "SELECT ts FROM decision ORDER BY ts") == [(T0 + 1000,), (T0 + 3000,)]


def test_gaps_are_stored_once_and_grow(url: str, stores: Stores) -> None:
    store = stores(url)
    for _ in range(2):
        store.write([Gap(T0, T0 + 5, "spool_full", 7, "x" * 300)])
    store.write([Gap(T0, T0 + 9, "spool_full", 9)])
    store.write([Gap(T0, T0 + 9, "broker_dropped", 1)])
    assert rows(url, "SELECT ended, messages, reason FROM gap ORDER BY reason") == [
        (T0 + 9, 1, "broker_dropped"),
        (T0 + 9, 9, "spool_full"),
    ]


def test_another_device_under_a_name_is_said(
    sqlite_url: str, stores: Stores, caplog: pytest.LogCaptureFixture
) -> None:
    def info(device: str, second: int, serial: str) -> DocumentHeard:
        body = {"ts": iso(T0 + second * 1000), "family": "axpert", "serial": serial}
        return DocumentHeard(device, T0 + second * 1000, "info", json.dumps(body))

    store = stores(sqlite_url)
    for _ in range(2):
        store.write([info("inverter", 1, "111"), info("inverter", 2, "111")])
        store.write([info("roof", 3, "111")])
        store.write([info("inverter", 4, "222")])
    said = [r.message for r in caplog.records if not r.name.startswith("alembic")]
    assert said == [
        "roof: is the device axpert 111 that was called inverter, or still is: what was stored"
        " under that name stays there",
        "inverter: is another device now: axpert 111 was replaced by axpert 222",
    ]


def test_new_series_are_capped_by_the_minute(
    url: str, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = stores(url, new_series_a_minute=10)
    assert store.capped is None
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    for n in range(3):
        store.write([sample(T0 + n, {f"q{m}_w": 1.0 for m in range(15)})])
    assert rows(url, "SELECT COUNT(*) FROM series") == [(10,)]
    assert store.refused_series == 15
    assert store.capped is not None
    now += 61
    store.write([sample(T0 + 5, {f"q{m}_w": 1.0 for m in range(15)})])
    assert rows(url, "SELECT COUNT(*) FROM series") == [(15,)]
    now += 600
    assert store.capped is None


def test_a_vocabulary_that_learns_is_said(
    sqlite_url: str,
    stores: Stores,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stores(sqlite_url).write([sample(T0, {"flux_kwh": 1.0})])
    learnt = vocabulary.Quantity("flux_kwh", "kWh", Kind.COUNTER, "", "flux")
    monkeypatch.setitem(vocabulary.VOCABULARY, "flux_kwh", learnt)
    for _ in range(2):
        stores(sqlite_url).write([])
    said = [r.message for r in caplog.records if "from now on" in r.message]
    assert said == ["inverter: flux_kwh is a counter in kWh from now on; it was a gauge in kWh"]
