"""What the simulated house pays for a kilowatt-hour: an example of a contract with three bands."""

from datetime import date
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.exc import SQLAlchemyError
from sunmesh import config
from sunmesh.database import costs
from sunmesh.database.tariff import Band, Side, Tariff
from sunmesh.errors import SunmeshError

WORKDAYS = (1, 2, 3, 4, 5)
BANDS = (
    Band("F1", 0.31, "08:00", "19:00", WORKDAYS),
    Band("F2", 0.28, "07:00", "08:00", WORKDAYS),
    Band("F2 evening", 0.28, "19:00", "23:00", WORKDAYS),
    Band("F2 Saturday", 0.28, "07:00", "23:00", (6,)),
)
"""Hours as Italy's contracts divide the week; prices are invented [EUR/kWh]."""
TARIFF = Tariff(
    currency="EUR",
    name="Example of three bands",
    buy=Side(0.24, BANDS),
    sell=Side(0.09),
    standing=132.0,
    standing_per="year",
    co2_grid=270.0,
    holidays=(
        "01-01",
        "01-06",
        "04-25",
        "05-01",
        "06-02",
        "08-15",
        "11-01",
        "12-08",
        "12-25",
        "12-26",
    ),
)
FIRST = date(2020, 1, 1)
BATTERY = """
[battery]
chemistry = "lfp"
cells = 16
capacity_kwh = 14.3
capacity_ah = 280.0
price = 4200.0
currency = "EUR"
rated_cycles = 6000
"""
"""What the simulated pack cost and promises, as ``site.toml`` says it."""


def sign(site: Path) -> None:
    """Enter the contract into the site's database, where there is none yet.

    Args:
        site: the house's ``site.toml``; its database has its tables.

    Raises:
        SunmeshError: the database does not take it.
    """
    engine = create_engine(config.load(site, "recorder").database.sqlalchemy_url())
    try:
        with engine.begin() as connection:
            if not costs.entries(connection):
                costs.save(connection, FIRST, TARIFF, "simulator")
    except SQLAlchemyError as err:
        raise SunmeshError(f"the example of a tariff is not in the database: {err}") from err
    finally:
        engine.dispose()
