"""Who hears of what, when, and how often."""

import msgspec
import pytest
from notifier.changes import Bucket, next_weekly, not_before
from notifier.config import Hours, RouteConfig, TargetConfig
from sunmesh import clock
from sunmesh.messages import Delivery, ServiceStatus, encode
from sunmesh.mqtt import Message

from .conftest import NOON, ZONE

TWO = {
    "anna": {"by": "pushover", "token_file": "t", "user": "anna"},
    "bruno": {"by": "catapush", "token_file": "c", "recipient": "39333", "app_id": 318},
}


def test_a_raised_and_a_cleared_alarm_are_one_push_each(house):
    home = house()
    assert home.hear() == "raised"
    home.deliver()
    assert home.hear("cleared") == "cleared"
    home.deliver()
    assert home.titles == ["Warning: inverter is hot", "Over: inverter is hot"]
    assert [letter.fields["priority"] for letter in home.letters] == ["0", "-1"]


def test_a_repetition_is_no_change(house):
    home = house()
    first = home.alarm()
    for _ in range(3):
        with home.outbox.transaction():
            home.notifier.take(*first)
    home.now_ms += 1
    assert home.hear() == "same", "still there, said again a moment later"
    home.deliver()
    assert len(home.letters) == 1
    home.hear("cleared")
    with home.outbox.transaction():
        assert home.notifier.take(*first) == "again", "a late delivery of what was heard before"
    home.deliver()
    assert len(home.letters) == 2


def test_a_detector_that_was_restarted_raises_nothing_new(house):
    home = house()
    home.hear()
    assert home.hear(number=2) == "same"
    home.ack(number=2)
    assert home.outbox.alarm("inverter", "heat_sink_hot").acked_by == "web:anna"
    home.hear("cleared", number=2)
    assert home.hear(number=3) == "raised"


def test_worse_is_told_and_milder_is_not(house):
    home = house()
    home.hear(severity="info")
    home.deliver()
    assert home.letters == []
    assert home.hear(severity="warning") == "worse"
    home.ack()
    assert home.hear(severity="critical") == "worse"
    assert not home.outbox.alarm("inverter", "heat_sink_hot").acked_by
    assert home.hear(severity="warning") == "better"
    home.deliver()
    assert len(home.letters) == 2


def test_a_follower_is_listed_under_its_cause_and_not_pushed(house):
    home = house()
    home.hear(device="roof-1", code="device_lost", cause="roof/device_lost", title="roof-1 is lost")
    home.hear(device="roof", code="device_lost", title="roof is lost")
    home.hear(device="roof-2", code="device_lost", cause="roof/device_lost", title="roof-2 is lost")
    home.passes(4)
    assert home.titles == ["Warning: roof is lost"]
    assert "Also affected: roof-1" in home.letters[0].fields["message"]
    home.passes(600)
    assert len(home.letters) == 1
    home.hear("cleared", device="roof", code="device_lost")
    home.deliver()
    assert "roof-1, roof-2" in home.letters[1].fields["message"]
    home.hear("cleared", device="roof-1", code="device_lost")
    home.passes(115)
    assert len(home.letters) == 2
    home.passes(10, step=5)  # roof-2 stays on its own
    assert home.titles[2:] == ["Warning: roof-2 is lost"]


def test_a_cause_that_is_found_a_moment_later_folds_what_has_not_gone_out(house):
    home = house()
    one = home.alarm(device="roof-1", code="device_lost")
    for cause in (None, None, "roof/device_lost", "roof/device_lost"):
        alarm = msgspec.structs.replace(one[2], cause=cause)
        with home.outbox.transaction():
            home.notifier.take(*one[:2], alarm)
        home.deliver()
    home.hear(device="roof", code="device_lost", title="roof is lost")
    home.passes(10)
    assert home.titles == ["Warning: roof is lost"]
    assert "roof-1" in home.letters[0].fields["message"]


def test_a_follower_whose_cause_never_comes_stands_for_itself(house):
    home = house()
    home.hear(device="roof-1", code="device_lost", cause="roof/device_lost")
    home.passes(119)
    assert home.letters == []
    home.passes(10, step=5)
    assert len(home.letters) == 1


def test_routes_choose_by_severity_device_code_and_hours(house):
    routes = [
        {"to": ["anna"], "severity": "critical"},
        {"to": ["bruno"], "devices": ["roof*"], "severity": "info", "hours": "08:00-18:00"},
        {"to": ["bruno"], "codes": ["disk_full"]},
    ]
    home = house(targets=TWO, routes=routes)
    for device, code, severity, who in (
        ("inverter", "heat_sink_hot", "warning", set()),
        ("inverter", "output_off", "critical", {"anna"}),
        ("roof-3", "panel_weak", "info", {"bruno"}),
        ("watch", "disk_full", "warning", {"bruno"}),
        ("roof", "device_lost", "critical", {"anna", "bruno"}),
    ):
        home.hear(device=device, code=code, severity=severity)
        known = home.outbox.alarm(device, code)
        assert {r.target for r in home.outbox.deliveries(device, code, known.episode)} == who
    home.now_ms += 7 * 3_600_000
    home.hear(device="roof-4", code="panel_weak", severity="info")
    assert home.outbox.deliveries("roof-4", "panel_weak", 6) == []


def test_the_night_holds_back_all_but_the_critical(house):
    night = {"anna": {"by": "pushover", "token_file": "t", "user": "a", "quiet": "22:30-07:00"}}
    home = house(targets=night, routes=[{"remind_every_s": 0}])
    home.now_ms += 11 * 3_600_000  # 23:00
    home.hear(device="one", title="one")
    home.hear(device="two", title="two")
    home.hear("cleared", device="two", title="two")
    home.deliver()
    assert home.letters == []
    home.hear("raised", "critical", device="three", title="three")
    home.deliver()
    assert home.titles == ["CRITICAL: three"]
    home.passes(8 * 3600 - 60)
    home.passes(120)
    assert home.titles[1] == "3 changes, open alarms: 1"
    assert home.letters[1].fields["message"] == "Warning: one\nOver: two (2×)"
    assert "waiting" not in home.states


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ("2026-11-18T22:00:00Z", "2026-11-19T06:00:00Z"),
        ("2026-11-18T05:00:00Z", "2026-11-18T06:00:00Z"),
        ("2026-11-18T12:00:00Z", "2026-11-18T12:00:00Z"),
        ("2026-03-28T22:30:00Z", "2026-03-29T05:00:00Z"),  # the night of 23 hours
        ("2026-10-24T21:30:00Z", "2026-10-25T06:00:00Z"),  # and that of 25
    ],
)
def test_the_end_of_the_night_is_on_the_owners_clock(at, end):
    target = TargetConfig("pushover", "t", user="a", quiet="22:30-07:00")
    found = not_before("warning", target, clock.epoch_ms(clock.parse(at)), ZONE)
    assert clock.iso(clock.from_ms(found)) == end.replace("Z", ".000Z")


def test_hours_are_half_open_and_may_cross_midnight():
    local = clock.from_ms(NOON).astimezone(ZONE)
    assert Hours("12:00-13:00").holds(local)
    assert not Hours("11:00-12:00").holds(local)
    assert not Hours("").holds(local)
    assert Hours("20:00-12:01").holds(local)


def test_reminders_come_until_it_is_acknowledged(house):
    home = house(routes=[{"remind_every_s": 3600, "reminders": 3}])
    home.hear()
    home.passes(2 * 3600 + 60, step=300)
    assert home.titles[1:] == ["Still so – Warning: inverter is hot"] * 2
    home.ack()
    home.passes(7200, step=600)
    assert len(home.letters) == 3


def test_reminders_end_by_themselves_and_with_the_alarm(house):
    home = house(routes=[{"remind_every_s": 3600, "reminders": 2, "cleared": False}])
    home.hear()
    home.passes(6 * 3600, step=600)
    assert len(home.letters) == 3
    home.hear("cleared")
    home.hear(number=2)
    home.hear("cleared", number=2)
    home.passes(6 * 3600, step=600)
    assert len(home.letters) == 4


def test_what_nobody_acknowledges_is_escalated(house):
    routes = [{"to": ["anna"], "escalate_to": ["bruno"], "escalate_after_s": 900}]
    home = house(targets=TWO, routes=routes)
    home.hear()
    home.passes(880)
    assert [letter.provider for letter in home.letters] == ["pushover"]
    home.passes(30)
    assert [letter.provider for letter in home.letters] == ["pushover", "catapush"]
    assert "Nobody has acknowledged it yet." in home.letters[1].fields["text"]
    home.hear("cleared")
    home.deliver()
    assert len(home.letters) == 4, "who was told that it is so is told that it is over"
    home.hear(number=2)
    home.ack(number=2)
    home.passes(2000, step=100)
    assert len(home.letters) == 5


def test_who_refuses_for_good_is_passed_over_at_once(house, phone):
    phone.provider.users = frozenset({"39333"})
    routes = [
        {"to": ["anna"], "escalate_to": ["bruno"], "escalate_after_s": 900},
        {"to": ["bruno"], "devices": ["notifier"]},
    ]
    home = house(targets=TWO, routes=routes)
    home.hear()
    home.deliver()
    home.passes(1)
    assert [letter.provider for letter in home.letters] == ["catapush"]
    assert home.states == ["failed", "sent"]
    alarm = next(p for t, p, _ in home.mesh.published if t.endswith("notifier/channel_failed"))
    assert b"user identifier is invalid" in alarm


def test_a_storm_is_a_few_pushes_and_a_digest(house):
    home = house(burst=5, one_more_every_s=600)
    for number in range(500):
        home.hear(
            device=f"d{number % 50}",
            code="x",
            number=number,
            title=f"alarm {number % 50}",
            state="raised" if number // 50 % 2 == 0 else "cleared",
        )
    home.deliver()
    assert len(home.letters) == 5
    assert home.titles[4] == "496 changes, open alarms: 0"
    assert "and 38 more" in home.letters[4].fields["message"]
    assert len(home.letters[4].fields["message"]) <= 1024
    assert home.outbox.count_states()["digest"] == 496
    home.hear(device="d1", code="x", number=1000)
    home.passes(599)
    assert len(home.letters) == 5
    home.passes(2)
    assert len(home.letters) == 6


def test_a_storm_leaves_room_for_what_is_critical(house):
    home = house(burst=3)
    for number in range(20):
        home.hear(device=f"d{number}")
    home.hear("raised", "critical", device="bms", code="battery_fault", title="fault")
    home.deliver()
    assert len(home.letters) == 4
    assert "CRITICAL: bms: fault" in home.titles


def test_the_rate_goes_on_over_a_restart(house):
    home = house(burst=3)
    for number in range(3):
        home.hear(device=f"d{number}")
    home.deliver()
    home.restart()
    home.hear(device="d9")
    home.deliver()
    assert len(home.letters) == 3
    home.passes(601)
    assert len(home.letters) == 4


def test_a_bucket_fills_up_slowly():
    bucket = Bucket(2, 10.0)
    assert bucket.left(0.0) == 2
    bucket.take(0.0)
    bucket.take(0.0)
    assert bucket.left(9.9) == 0
    assert bucket.wait_s(9.9) == pytest.approx(0.1)
    assert bucket.left(10.0) == 1
    assert bucket.left(1000.0) == 2


def test_last_weeks_alarm_does_not_arrive_today(house):
    home = house()
    home.provider.is_down = True
    home.hear(device="over")
    home.hear("cleared", device="over")
    home.hear(device="open", title="open")
    home.passes(7 * 86_400, step=43_000)
    home.provider.is_down = False
    home.passes(600, step=60)
    assert {title for title in home.titles if "over" in title} == set()
    assert "Warning: open" in home.titles, "what is still so is today's, too"
    assert "Since 2026-11-18 12:00" in home.letters[0].fields["message"]


def test_an_old_change_waits_for_the_one_that_says_it_is_over(house):
    home = house()
    week = 7 * 86_400.0
    home.hear(ago_s=week)
    home.hear("cleared", ago_s=week - 60)
    home.hear(device="open", ago_s=week)
    home.passes(15, step=5)
    assert home.titles == ["Warning: open: inverter is hot"]


def test_what_was_over_before_it_could_be_told_does_not_ring(house):
    home = house()
    home.provider.is_down = True
    home.hear("raised", "critical")
    home.deliver()
    home.now_ms += 60_000
    home.hear("cleared", "critical")
    home.provider.is_down = False
    home.passes(120, step=5)
    assert home.titles == ["Was: inverter is hot", "Over: inverter is hot"]
    assert [letter.fields["priority"] for letter in home.letters] == ["0", "-1"]
    assert "From 12:00 to 12:01" in home.letters[0].fields["message"]


def test_a_weekly_sign_of_life(house):
    home = house(sign_of_life="thu 09:00")
    home.notifier._backup_age_h = 6.0
    home.passes(20 * 3600, step=3000)
    assert home.letters == []
    home.passes(2 * 3600, step=600)
    assert home.titles == ["All is watched, open alarms: 0"]
    assert "Last backup: 2026-11-19 03:" in home.letters[0].fields["message"]
    home.restart()
    home.passes(3600, step=600)
    assert len(home.letters) == 1
    home.passes(7 * 86_400, step=3000)
    assert len(home.letters) == 2


def test_a_sign_of_life_that_is_days_late_is_left_out(house):
    home = house(sign_of_life="thu 09:00")
    home.turn()
    home.now_ms += 3 * 86_400_000
    home.restart()
    home.deliver()
    assert home.letters == []


def test_the_next_week_is_seven_local_days_later():
    due = next_weekly(clock.epoch_ms(clock.parse("2026-10-24T10:00:00Z")), 6, 540, ZONE)
    assert clock.iso(clock.from_ms(due)) == "2026-10-25T08:00:00.000Z"
    assert next_weekly(due, 6, 540, ZONE) == due + 7 * 86_400_000


def test_the_portal_hears_what_became_of_each_push(house):
    home = house(targets=TWO)
    home.hear()
    home.deliver()
    home.passes(1)
    said = home.mesh.said("sunmesh/home/alarms/inverter/heat_sink_hot/delivery", Delivery)
    assert {name: done.state for name, done in said[-1].targets.items()} == {
        "anna": "sent",
        "bruno": "sent",
    }
    assert said[-1].targets["anna"].by == "pushover"


def test_a_clock_that_is_set_changes_no_duration(house):
    home = house(routes=[{"remind_every_s": 3600}])
    home.hear()
    home.deliver()
    for jump in (400 * 86_400_000, -800 * 86_400_000):
        home.now_ms += jump
        home.deliver()
        home.passes(1000)
        assert len(home.letters) == 1
    home.provider.is_down = True
    home.hear(device="two", title="two")
    home.deliver()
    home.now_ms += 86_400_000 * 30
    home.deliver()
    home.provider.is_down = False
    home.passes(60, step=10)
    assert home.titles[1] == "Warning: two"


def test_a_reminder_does_not_overtake_what_it_reminds_of(house):
    home = house(routes=[{"remind_every_s": 60, "reminders": 3}])
    home.provider.is_down = True
    home.hear()
    home.passes(300, step=30)
    home.provider.is_down = False
    home.passes(31, step=5)
    assert home.titles[0] == "Warning: inverter is hot"


def test_a_route_is_about_what_it_names():
    route = RouteConfig(devices=("roof-*",))
    assert route.is_about("roof-1", "x")
    assert not route.is_about("roof", "x")


def test_a_rival_that_takes_over_ends_this_one(house):
    home = house()
    home.notifier._lost("Session taken over")
    assert "taken over" in home.notifier._rival


@pytest.mark.parametrize(
    ("code", "severity", "waits"),
    [
        ("device_lost", "warning", True),
        ("grid_absent", "warning", True),
        ("blind-inverter", "warning", True),
        ("relay_without_effect", "critical", False),
        ("heat_sink_hot", "warning", False),
        ("inverter_warning", "warning", False),
    ],
)
def test_only_what_may_follow_waits_and_nothing_critical(house, code, severity, waits):
    home = house(fold_s=2.0)
    home.hear(code=code, severity=severity)
    home.deliver()
    assert len(home.letters) == (not waits)
    home.passes(2.1)
    assert len(home.letters) == 1


def watch_is(home, state, retain=False):
    status = encode(ServiceStatus(state, "0", "here", "2026-11-21T12:00:00.000Z"))
    topic = home.mesh.topics.service_status("watch")
    home.mesh.handlers[topic](Message(topic, status, retain, False, 0, 1))


def echo(home):
    """What the broker brings back of what the notifier says itself."""
    for topic, payload, _ in list(home.mesh.published):
        if topic == home.mesh.topics.alarm("watch", "service_lost"):
            home.hear_raw(topic, payload)


def test_a_watch_that_is_away_is_told_by_the_notifier(house):
    home = house()
    home.passes(3600, step=600)
    assert home.mesh.published == [], "a house without one is no alarm"
    watch_is(home, "online", retain=True)
    home.turn()
    watch_is(home, "offline")
    home.passes(59)
    assert home.mesh.published == []
    home.passes(2)
    echo(home)
    home.passes(4)
    assert home.titles == ["Warning: The watch does not run"]
    assert "away for 61 s" in home.letters[0].fields["message"]
    home.restart()
    watch_is(home, "offline", retain=True)
    home.passes(300, step=50)
    assert len(home.letters) == 1, "one alarm, over a restart, too"
    watch_is(home, "online")
    home.turn()
    echo(home)
    home.deliver()
    assert home.titles[1:] == ["Over: The watch does not run"]


def test_a_watch_that_hangs_is_away_though_it_says_that_it_is_online(house):
    home = house()
    topic = home.mesh.topics.service_health("watch")
    watch_is(home, "online", retain=True)
    for _ in range(20):
        home.passes(30)
        home.mesh.handlers[topic](Message(topic, b"{}", False, False, 0, 1))
    assert home.mesh.published == []
    home.passes(170)
    assert len(home.mesh.published) == 1
    home.notifier._lost("the broker is away")
    home.passes(3600, step=600)
    assert len(home.mesh.published) == 1, "nothing is known without a broker"


def test_a_grace_of_0_leaves_the_watch_alone(house):
    home = house(watch_grace_s=0)
    assert home.mesh.topics.service_status("watch") not in home.mesh.handlers
