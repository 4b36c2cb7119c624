"""Pushover: what is sent, what its answers mean, and that a push arrives once."""

import contextlib
import random
import time

import pytest
from notifier.config import TargetConfig
from notifier.emulator import FAULTS, TAKEN
from notifier.push import Doubt, Later, Push, Refused, Taken
from notifier.pushover import Pushover, retry_after
from notifier.transport import Reply, ask
from sunmesh.messages import Ack

TOPIC = "sunmesh/home/alarms/inverter/heat_sink_hot/ack"


def channel(answer, **settings):
    """A channel whose provider says ``answer``, or raises it."""
    target = TargetConfig("pushover", "t", user="u", **settings)

    def wire(*_args, **_kwargs):
        if isinstance(answer, Exception):
            raise answer
        return answer

    return Pushover(target, "token", "u", ask=wire, timeout_s=1.0, now_s=lambda: 1000.0)


def push(**more):
    return Push(
        **{
            "ref": "r",
            "title": "T",
            "body": "B",
            "severity": "warning",
            "kind": "raised",
            "at_ms": 5000,
        }
        | more
    )


@pytest.mark.parametrize(
    ("more", "priority"),
    [
        ({"severity": "info"}, -1),
        ({}, 0),
        ({"severity": "critical"}, 2),
        ({"severity": "critical", "kind": "cleared"}, -1),
        ({"severity": "critical", "kind": "past"}, 0),
        ({"severity": "critical", "kind": "digest"}, 1),
        ({"severity": "critical", "kind": "reminder"}, 2),
        ({"severity": "info", "kind": "sign_of_life"}, -1),
    ],
)
def test_the_priority_follows_from_severity_and_kind(more, priority):
    form = channel(Reply(200, {}, b"")).fields(push(**more))
    assert form["priority"] == str(priority)
    assert ("retry" in form and "expire" in form) == (priority == 2)


def test_without_emergencies_critical_is_high():
    assert channel(None, emergency=False).priority(push(severity="critical")) == 1


def test_what_is_too_long_is_cut_and_never_refused():
    form = channel(None).fields(push(title="t" * 999, body="ä" * 9999, url="http://x/" + "y" * 600))
    assert (len(form["title"]), len(form["message"])) == (250, 1024)
    assert "url" not in form


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(200, {}, b'{"status":1,"request":"r"}'), Taken),
        (Reply(200, {}, b'{"status":0,"errors":["no"]}'), Refused),
        (Reply(400, {}, b'{"status":0,"user":"invalid","errors":["no"]}'), Refused),
        (Reply(413, {}, b"too large"), Refused),
        (Reply(429, {"retry-after": "7"}, b""), Later),
        (Reply(302, {"location": "http://elsewhere/"}, b""), Later),
        (Reply(200, {}, b"<html>log in</html>"), Doubt),
        (Reply(200, {}, b"[1]"), Doubt),
        (Reply(200, {}, b"\xff\xfe"), Doubt),
        (Reply(200, {}, b"[" * 5000), Doubt),
        (Reply(500, {}, b'{"status":0}'), Doubt),
        (Reply(503, {}, b""), Doubt),
    ],
)
def test_an_answer_means(reply, kind):
    found = channel(reply).send(push())
    assert type(found) is kind
    if reply.status == 429:
        assert found.after_s == 7


def test_a_quota_that_is_spent_waits_for_the_next_month_an_hour_at_a_time():
    headers = {"x-limit-app-remaining": "0", "x-limit-app-reset": "99999999"}
    assert channel(Reply(429, headers, b"")).send(push()).after_s == 3600


def test_retry_after_is_read_in_both_forms():
    assert retry_after({"retry-after": "120"}) == 120
    assert retry_after({"retry-after": "999999999"}) == 86_400
    assert retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0
    assert retry_after({"retry-after": "soon"}) is None
    assert retry_after({}) is None


@pytest.mark.parametrize(
    ("proof", "now", "is_taken"),
    [
        ("100 7", b'{"remaining":99,"reset":7}', True),
        ("100 7", b'{"remaining":100,"reset":7}', False),
        ("100 7", b'{"remaining":9999,"reset":8}', False),
        ("", b"", False),
    ],
)
def test_the_quota_proves_what_was_taken(proof, now, is_taken):
    found = channel(Reply(200, {}, now)).settle(push(severity="critical"), proof)
    assert isinstance(found, Taken) == is_taken
    if is_taken:
        assert found.rings_s == 3600


def test_the_token_is_in_no_text(house, caplog):
    home = house()
    home.provider.script.extend(["500", "reset", "hang", "429", "redirect", "html"])
    home.hear()
    home.passes(1200, step=20)
    assert home.titles == ["Warning: inverter is hot"]
    assert "secret" not in caplog.text
    assert "secret" not in repr(home.outbox.list_deliveries(9, only_open=False))


@pytest.mark.parametrize("fault", [f for f in FAULTS if f not in ("error200", "slow")])
def test_a_wrong_answer_leads_to_one_message(house, fault):
    home = house()
    home.provider.hang_s = 1.5
    home.provider.script.append(fault)
    home.hear()
    home.hear("cleared")
    home.passes(200, step=5)
    assert home.titles == [
        "Was: inverter is hot",
        "Over: inverter is hot",
    ]
    assert home.notifier.senders[0].counters["doubts_taken"] == (fault in TAKEN)


def test_an_error_in_a_200_is_for_good_and_said_once(house):
    home = house()
    home.provider.script.append("error200")
    home.hear()
    home.passes(200, step=20)
    assert home.letters == []
    assert home.provider.asked == ["error200"]
    assert home.states == ["failed"]


def test_retry_after_is_kept(house):
    home = house(retry_s=1)
    home.provider.retry_after = 90
    home.provider.script.append("429")
    home.hear()
    home.passes(85, step=5)
    assert home.letters == []
    home.passes(10, step=5)
    assert len(home.letters) == 1


def test_a_provider_that_is_down_for_an_hour_gets_everything_in_order(house):
    home = house(burst=20)
    home.provider.is_down = True
    for number in range(6):
        home.hear(device=f"d{number}", title=f"d{number}")
    home.passes(3600, step=60)
    assert home.letters == []
    home.provider.is_down = False
    home.passes(310, step=10)
    assert sorted(home.titles) == [f"Warning: d{number}" for number in range(6)]
    assert home.states == ["sent"] * 6


def test_one_message_that_is_never_taken_stops_no_other(house):
    home = house(retry_s=1)
    home.hear(title="bad")
    home.provider.script.extend(["500"] * 3)
    home.deliver()
    home.hear(device="two", title="good")
    home.passes(600, step=5)
    assert {"Warning: bad", "Warning: two: good"} >= set(home.titles) or len(home.letters) == 2


def kill_in_the_middle(home):
    """As kill -9 just after the provider has answered, before that was written down."""

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    home.outbox.sent = die
    with contextlib.suppress(KeyboardInterrupt):  # where a provider fails it does not come so far
        home.deliver()
    home.restart()


def test_a_kill_between_answer_and_note_makes_no_double(house):
    home = house()
    home.hear()
    kill_in_the_middle(home)
    home.passes(60, step=5)
    assert len(home.letters) == 1
    assert home.states == ["sent"]


def test_a_kill_before_the_provider_was_asked_loses_nothing(house):
    home = house()
    home.hear()

    def die(*_args, **_kwargs):
        raise KeyboardInterrupt

    sender = home.notifier.senders[0]
    sender.channels["anna"].send = die
    with pytest.raises(KeyboardInterrupt):
        home.deliver()
    home.restart()
    home.passes(60, step=5)
    assert len(home.letters) == 1


def test_with_a_shared_token_a_kill_errs_towards_telling_twice(house):
    targets = {"anna": {"by": "pushover", "token_file": "t", "user": "a", "token_is_shared": True}}
    home = house(targets=targets)
    home.hear()
    kill_in_the_middle(home)
    home.passes(60, step=5)
    assert len(home.letters) == 2


def test_seeded_faults_and_kills_each_change_once(house):
    home = house(burst=100_000, retry_s=0.5, timeout_s=0.3)
    home.provider.rates = dict.fromkeys(
        ("429", "500", "500taken", "reset", "resettaken", "truncated", "html", "redirect"), 0.06
    )
    draw = random.Random(11)
    for number in range(60):
        home.hear(device=f"d{number}", title=f"raised {number}")
        if draw.random() < 0.15:
            kill_in_the_middle(home)
        else:
            home.deliver()
        home.passes(1.0)
    home.passes(2000, step=2)
    assert sorted(home.titles) == sorted(f"Warning: d{n}: raised {n}" for n in range(60))


def test_an_emergency_that_is_acknowledged_on_the_phone_is_on_the_topic(house):
    home = house()
    home.hear("raised", "critical")
    home.deliver()
    letter = home.letters[0]
    assert (letter.fields["retry"], letter.fields["expire"], letter.rings) == ("60", "3600", True)
    home.passes(12, step=6)
    assert home.mesh.said(TOPIC, Ack) == []
    assert home.provider.acknowledge(letter.receipt)
    home.passes(12, step=6)
    said = home.mesh.said(TOPIC, Ack)
    assert said[0].id == "id-inverter-heat_sink_hot-1"
    assert said[0].by == "anna by phone"
    assert home.outbox.alarm("inverter", "heat_sink_hot").acked_by == "anna by phone"
    assert home.states == ["acknowledged"]
    home.restart()
    home.passes(6, step=3)
    assert len(home.mesh.said(TOPIC, Ack)) > len(said), "until it was heard there"
    home.hear_raw(
        TOPIC, b'{"id":"id-inverter-heat_sink_hot-1","by":"x","ts":"2026-11-18T11:00:00Z"}'
    )
    count = len(home.mesh.said(TOPIC, Ack))
    home.passes(60, step=6)
    assert len(home.mesh.said(TOPIC, Ack)) == count


@pytest.mark.parametrize("how", ["cleared", "ack"])
def test_an_emergency_that_is_over_or_seen_rings_no_more(house, how):
    home = house()
    home.hear("raised", "critical")
    home.deliver()
    if how == "cleared":
        home.hear("cleared", "critical")
    else:
        home.ack()
    home.provider.is_down = True
    home.passes(30, step=10)
    assert home.letters[0].rings
    home.restart()
    home.provider.is_down = False
    home.passes(60, step=10)
    assert home.letters[0].state == "cancelled"


def test_an_emergency_whose_receipt_was_lost_is_cancelled_by_its_tag(house):
    home = house()
    home.hear("raised", "critical")
    kill_in_the_middle(home)
    home.passes(30, step=5)
    assert home.letters[0].rings
    home.hear("cleared", "critical")
    home.passes(30, step=5)
    assert home.letters[0].state == "cancelled"
    assert len(home.letters) == 2


def test_a_receipt_is_not_asked_for_too_often(house, phone):
    phone.provider.gap_s = 5.0
    home = house()
    home.hear("raised", "critical")
    home.deliver()
    for _ in range(3):
        home.deliver()
    assert len(phone.provider._looked) == 1
    assert time.time() - next(iter(phone.provider._looked.values())) < 60


def test_a_real_request_that_nobody_answers_ends_in_time(phone):
    phone.provider.script.append("hang")
    phone.provider.hang_s = 30
    target = TargetConfig("pushover", "t", user="u", base_url=phone.url)
    one = Pushover(target, "t", "u", ask=ask, timeout_s=0.3, now_s=time.time)
    found = one.send(push())
    assert isinstance(found, Doubt)
    assert "within 0.3 s" in found.reason


def test_nobody_listens(free_port):
    target = TargetConfig("pushover", "t", user="u", base_url=f"http://127.0.0.1:{free_port}")
    one = Pushover(target, "t", "u", ask=ask, timeout_s=2.0, now_s=time.time)
    assert isinstance(one.send(push()), Later)
    assert isinstance(one.proof(), Later)
