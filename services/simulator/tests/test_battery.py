"""The pack by itself: curve, energy, limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from simulator import battery

FULL = battery.build(7, 16, 280.0, 7)


@given(st.floats(-0.03, 1.03))
def test_the_curve_only_rises(soc):
    assert battery.open_voltage(soc + 0.001) > battery.open_voltage(soc)


def test_the_curve_goes_through_its_points():
    for soc, volts in battery.CURVE[1:-1]:
        assert battery.open_voltage(soc) == pytest.approx(volts, abs=1e-9)


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_energy_is_the_integral_of_the_curve(a, b):
    low, high = sorted((a, b))
    steps = 4000
    width = (high - low) / steps
    area = sum(battery.open_voltage(low + (i + 0.5) * width) for i in range(steps)) * width
    assert battery.energy_at(high) - battery.energy_at(low) == pytest.approx(area, abs=2e-5)


def test_a_pack_of_280_ah_holds_what_its_label_says():
    full, empty = battery.Pack(FULL, 1.0), battery.Pack(FULL, 0.0)
    assert (full.stored_wh - empty.stored_wh) / 1000 == pytest.approx(14.7, abs=0.3)
    assert full.soc_percent == 100.0
    assert empty.soc_percent == 0.0
    assert full.remaining_ah == pytest.approx(280, abs=4)


def test_one_cell_is_weak():
    by_capacity = sorted(range(16), key=lambda i: FULL.capacity_ah[i])
    assert by_capacity[0] == 6
    assert FULL.resistance_ohm[6] == max(FULL.resistance_ohm)
    assert len({*battery.build(7, 16, 280.0, 0).capacity_ah}) == 16


@given(
    st.floats(0.15, 0.92),
    st.floats(-4000.0, 8000.0),
    st.sampled_from([1.0, 60.0, 300.0]),
)
def test_the_current_gives_the_power_asked_for(soc, power, dt):
    pack = battery.Pack(FULL, soc)
    before = pack.stored_wh
    flow = pack.step(pack.current_for(power, dt), dt)
    assert flow.power_w == pytest.approx(power, abs=2.0 + 0.003 * abs(power))
    given_wh = (flow.power_w + flow.loss_w) * dt / 3600.0
    assert before - pack.stored_wh == pytest.approx(given_wh, abs=1e-7)


@given(st.floats(0.9, 1.0), st.floats(50.0, 58.0), st.sampled_from([1.0, 60.0, 300.0]))
def test_charging_to_the_limit_never_passes_it(soc, target, dt):
    pack = battery.Pack(FULL, soc)
    for _ in range(40):
        before_v = pack.open_v
        limit = min(100.0, pack.charge_limit_a(target, dt))
        flow = pack.step(-limit, dt)
        if limit > 0.0:
            assert flow.voltage_v <= max(target, before_v) + 0.15
            assert max(flow.cell_v) <= battery.CELL_TOP_V + 0.02


@given(st.floats(0.06, 0.15), st.sampled_from([1.0, 60.0, 300.0]))
def test_discharging_to_the_limit_leaves_the_cells_alive(soc, dt):
    pack = battery.Pack(FULL, soc)
    for _ in range(40):
        pack.step(min(150.0, pack.discharge_limit_a(dt)), dt)
        assert pack.lowest_v > battery.CELL_FLOOR_V - 0.05


def test_more_than_a_pack_can_give_is_its_maximum():
    pack = battery.Pack(FULL, 0.5)
    amperes = pack.current_for(1e6, 1.0)
    assert amperes * pack.open_v > 1e5
    assert pack.current_for(amperes * pack.open_v / 2.0, 1.0) <= amperes + 1.0


def test_the_highest_cells_are_bled_near_the_top():
    pack = battery.Pack(FULL, 0.99)
    pack.charge_ah[3] += 1.5
    pack.restore(pack.charge_ah)
    flow = pack.step(0.0, 60.0)
    assert 3 in flow.balancing
    assert flow.loss_w > 0.1
    assert battery.Pack(FULL, 0.5).step(0.0, 60.0).balancing == ()


def test_a_loose_busbar_shows_under_load_and_not_at_rest():
    pack = battery.Pack(FULL, 0.6)
    rest = pack.step(0.0, 1.0).cell_v
    pack.weaken(2)
    assert pack.step(0.0, 1.0).cell_v == pytest.approx(rest)
    loaded = pack.step(80.0, 1.0).cell_v
    assert loaded.index(min(loaded)) == 2
    pack.weaken(None)
    mended = pack.step(80.0, 1.0).cell_v
    assert mended[2] > loaded[2] + 0.1


def test_a_saved_charge_must_fit():
    with pytest.raises(ValueError, match="2 cells"):
        battery.Pack(FULL, 0.5).restore([1.0, 2.0])
