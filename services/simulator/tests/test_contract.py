"""What the simulated house pays."""

from datetime import date

from simulator import contract
from sqlalchemy import create_engine
from sunmesh.database import costs, tables


def test_the_contract_is_entered_once_and_an_owner_may_change_it(tmp_path) -> None:
    url = f"sqlite:///{tmp_path}/house.db"
    engine = create_engine(url)
    tables.metadata.create_all(engine)
    site = tmp_path / "site.toml"
    site.write_text(f'[site]\nname = "home"\n[database]\nurl = "{url}"\n{contract.BATTERY}')
    contract.sign(site)
    with engine.begin() as connection:
        (entry,) = costs.entries(connection)
        assert entry.tariff == contract.TARIFF
        costs.remove(connection, entry.first)
        costs.save(connection, date(2026, 1, 1), contract.TARIFF, "owner")
    contract.sign(site)
    with engine.begin() as connection:
        assert [entry.first for entry in costs.entries(connection)] == [date(2026, 1, 1)]
    engine.dispose()


def test_hours_cost_what_their_band_says() -> None:
    buy = contract.TARIFF.buy
    monday, saturday, sunday = 1, 6, 7
    for minute, weekday, price in (
        (7 * 60 - 1, monday, 0.24),
        (7 * 60, monday, 0.28),
        (8 * 60, monday, 0.31),
        (19 * 60, monday, 0.28),
        (23 * 60, monday, 0.24),
        (12 * 60, saturday, 0.28),
        (12 * 60, sunday, 0.24),
    ):
        assert buy.price_of(buy.at(minute, weekday, 11)) == price
