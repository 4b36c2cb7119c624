"""A verdict depends on readings nearby only: what the anchors promise, on nasty histories."""

from bookkeeper.counters import Rules, Track, rises
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

T0 = 1_774_728_000_000
MINUTE = 60_000
RULES = Rules(5000, 0.01)

SHOWN = {
    "right": lambda kwh: kwh,
    "zero": lambda _: 0.0,
    "old": lambda kwh: kwh - 20,
    "half": lambda kwh: kwh / 2,
    "high": lambda kwh: kwh + 300,
    "little": lambda kwh: kwh - 0.01,
    "near": lambda kwh: kwh + 0.3,
    "small": lambda kwh: kwh - 500,
}
histories = st.lists(
    st.tuples(
        st.sampled_from(sorted(SHOWN)),
        st.sampled_from((1, 1, 2, 3, 5, 8, 20, 45)),  # readings
        st.sampled_from((1, 1, 2, 4, 5, 20, 60, 300)),  # minutes before the first of them
    ),
    min_size=2,
    max_size=14,
)


def readings_of(history, pace):
    found, minute = [], 0
    for index, (kind, count, pause) in enumerate(history):
        minute += pause - 1
        for _ in range(count):
            minute += 1 + (index % 3 == 2)
            kwh = round(SHOWN[kind](500 + minute * pace), 2)
            found.append((T0 + minute * MINUTE, max(0.0, kwh)))
    return found


def after(found, ts):
    return [rise for rise in found if rise.start >= ts]


def before(found, ts):
    return [rise for rise in found if rise.end <= ts]


@settings(
    derandomize=True, max_examples=500, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(histories, st.sampled_from((0.0, 0.01, 0.05)), st.floats(0, 1), st.floats(0, 1), st.data())
def test_anchors_keep_their_promise(history, pace, where, cut, data):
    readings = readings_of(history, pace)
    index = int(where * (len(readings) - 1))
    ts = readings[index][0]
    whole = rises(readings, RULES)

    seen = readings[int(cut * index) :]
    view = Track(seen, RULES)
    low = view.anchor_before(ts)
    if low is not None:
        assert low < ts
        # Nothing that came before what is seen matters to what was counted after the anchor.
        assert after(view.rises(), low) == after(whole, low)
        # Nothing from ts on matters to what was counted before it.
        other = [r for r in readings if r[0] < ts] + [(ts + 1, data.draw(st.floats(0, 900)))]
        assert before(rises(other, RULES), low) == before(whole, low)

    seen = readings[: index + int((1 - cut) * (len(readings) - index)) + 1]
    view = Track(seen, RULES)
    high = view.anchor_after(ts)
    if high is not None:
        assert high >= ts
        assert before(view.rises(), high) == before(whole, high)
        other = [(ts - 1, data.draw(st.floats(0, 900)))] + [r for r in readings if r[0] >= ts]
        assert after(rises(other, RULES), high) == after(whole, high)
