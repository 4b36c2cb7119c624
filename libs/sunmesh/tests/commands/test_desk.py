"""What is refused before anybody looks at it, and how each stage is said."""

import json
from datetime import timedelta

import pytest
from sunmesh import clock
from sunmesh.commands.desk import EXPIRY_S, REMEMBERED, Desk
from sunmesh.errors import RefusedError
from sunmesh.messages import Command, Result, decode, encode

WISH = {"id": "c1", "name": "output_source_priority", "value": "SBU", "by": "web:anna"}


def at(seconds):
    return clock.iso(clock.now() + timedelta(seconds=seconds))


@pytest.fixture
def taken():
    return []


@pytest.fixture
def desk(paper, taken, ticks):
    return Desk(paper, "x", taken.append, monotonic=ticks)


def test_name_and_value_are_enough(desk, paper, taken, ticks, message):
    desk.hear(message({"name": "output_source_priority", "value": "SBU"}))
    (wish,) = taken
    assert (wish.name, wish.value, wish.by) == ("output_source_priority", "SBU", None)
    assert wish.id.startswith("given-")
    assert wish.deadline == ticks.now + EXPIRY_S
    assert not desk.is_late(wish)
    ticks.now += EXPIRY_S
    assert desk.is_late(wish)
    assert not paper.said, "who takes it says that it is accepted"


def test_each_stage_carries_id_name_value_time_and_by(desk, paper, taken, message):
    desk.hear(message(WISH))
    desk.say(taken[0], "accepted")
    desk.say(taken[0], "not_applied", "it has USB", value="USB")
    first, second = paper.results()
    assert {key: first[key] for key in WISH} == WISH
    assert abs(clock.parse(first["ts"]) - clock.now()) < timedelta(minutes=1)
    assert (second["value"], second["detail"]) == ("USB", "it has USB")


@pytest.mark.parametrize(
    ("body", "retain", "stage", "reason"),
    [
        (WISH, True, "refused", "retained"),
        (WISH | {"expires": "2020-01-01T00:00:00Z"}, False, "expired", "2020-01-01T00:00:00Z"),
        (WISH | {"expires": "tomorrow"}, False, "refused", "expires"),
        (b"not JSON", False, "refused", "not a command: "),
        (b"\xff\xfe", False, "refused", "not a command: "),
        (b"[1,2]", False, "refused", "not a command: "),
        (b"[" * 9000, False, "refused", "not a command: "),
        (b" " * 70_000, False, "refused", "no message is larger"),
        ({"id": "c1", "value": 1}, False, "refused", "name"),
        ({"id": "c1", "name": "", "value": 1}, False, "refused", "a name is 1 to 64"),
        ({"id": "c1", "name": "x"}, False, "refused", "value is missing"),
        ({"id": "c1", "name": "x", "value": {"a": 1}}, False, "refused", "not a command"),
        ({"id": "", "name": "x", "value": 1}, False, "refused", "an id is 1 to"),
        ({"id": "c" * 37, "name": "x", "value": 1}, False, "refused", "an id is 1 to"),
        ({"id": "a\nb", "name": "x", "value": 1}, False, "refused", "an id is 1 to"),
        (
            {"id": "c1", "name": "settings", "value": 1, "values": {"a": 1}},
            False,
            "refused",
            "both",
        ),
    ],
)
def test_what_must_not_be_done_is_refused_with_its_reason(
    desk, paper, taken, message, body, retain, stage, reason
):
    desk.hear(message(body, retain=retain))
    (result,) = paper.results()
    assert result["stage"] == stage
    assert reason in result["detail"]
    assert result["id"]
    assert not taken
    assert decode(Result, json.dumps(result).encode())


def test_what_can_be_told_of_an_unreadable_command_is_told(desk, paper, message):
    desk.hear(message({"id": "c7", "name": "a", "value": {"b": 1}, "by": "web:anna"}))
    assert [(r["id"], r["name"], r["by"]) for r in paper.results()] == [("c7", "a", "web:anna")]
    desk.hear(message({"id": ["c7"], "name": 3, "value": {"b": 1}}))
    assert paper.results()[1]["id"].startswith("given-")


def test_a_cleared_topic_is_no_command(desk, paper, taken, message):
    desk.hear(message(b"", retain=True))
    assert not paper.said
    assert not taken


def test_an_id_is_done_once_also_by_the_next_start(paper, taken, ticks, message):
    desk = Desk(paper, "x", taken.append, monotonic=ticks)
    desk.hear(message(WISH))
    desk.hear(message(WISH))
    again = Desk(paper, "x", taken.append, seen=desk.ids(), monotonic=ticks)
    again.hear(message(WISH))
    assert len(taken) == 1
    assert paper.stages() == ["refused", "refused"]
    assert "taken before" in paper.results()[0]["detail"]


def test_an_expired_or_retained_id_was_not_taken(desk, taken, message):
    desk.hear(message(WISH | {"expires": at(-5)}))
    desk.hear(message(WISH, retain=True))
    desk.hear(message(WISH | {"expires": at(60)}))
    assert len(taken) == 1


def test_only_so_many_ids_are_kept(desk, message):
    for n in range(3 * REMEMBERED):
        desk.hear(message(WISH | {"id": f"c{n}"}))
    assert len(desk.ids()) == REMEMBERED
    assert desk.ids()[-1] == f"c{3 * REMEMBERED - 1}"


def test_who_takes_a_command_refuses_it_by_an_error(paper, message):
    def no(wish):
        raise RefusedError(f"{wish.name} cannot be set")

    desk = Desk(paper, "x", no)
    desk.hear(message(WISH))
    (result,) = paper.results()
    assert (result["stage"], result["detail"]) == (
        "refused",
        "output_source_priority cannot be set",
    )


def test_a_mistake_of_ours_is_said_and_stops_nobody(paper, message, caplog):
    def crash(wish):
        raise ZeroDivisionError("oops")

    desk = Desk(paper, "x", crash)
    desk.hear(message(WISH))
    assert paper.stages() == ["failed"]
    assert "oops" in caplog.text


@pytest.mark.parametrize("body", [b"{", b"{}", {"name": "a"}, {"name": "", "value": 1}])
def test_what_cannot_be_read_is_told_to_who_must_fall_back(paper, message, body):
    reasons = []
    desk = Desk(paper, "x", lambda wish: None, unread=reasons.append)
    desk.hear(message(body))
    assert reasons == [paper.results()[0]["detail"]]


def test_a_huge_value_is_not_repeated(desk, paper, taken, message):
    desk.hear(message({"name": "a", "value": "x" * 60_000}))
    desk.say(taken[0], "refused", "not among")
    assert paper.results()[0]["value"] is None


def test_a_command_through_a_real_broker_is_heard_and_a_kept_one_refused(mesh, topics, eventually):
    taken, results = [], []
    watcher = mesh("watcher")
    watcher.subscribe(topics.result("x"), lambda m: results.append(decode(Result, m.payload)))
    desk = Desk(mesh("relay"), "x", taken.append)
    desk.listen()
    sender = mesh("web")
    sender.publish(topics.command("x"), encode(Command("a", 1)))
    eventually(lambda: taken)
    sender.publish(topics.command("x"), encode(Command("a", 2)), retain=True)
    eventually(lambda: results)
    assert "retained" in results[0].detail, "at its first delivery, too"
    late = Desk(mesh("relay2"), "x", taken.append)
    late.listen()
    eventually(lambda: len(results) == 2)
    assert [wish.value for wish in taken] == [1]
    sender.publish(topics.command("x"), b"", retain=True)
