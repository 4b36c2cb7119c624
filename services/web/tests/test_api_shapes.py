"""Thousands of requests that the API's own description allows, and as many that it does not.

Made by schemathesis, always the same ones.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from sqlalchemy import create_engine, insert
from sunmesh import clock
from sunmesh.database import tables
from sunmesh.testing import migrated
from web.api.doc import ROOT, Operation
from web.app import create_app
from web.streams import Stream
from web.views.api import OPERATIONS

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)
DEVICES = '[devices.inverter]\nfamily = "axpert"\n'
CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 20261121,
        "checks": {
            # 422: well written, and makes no sense, as a range that ends before it begins.
            "positive_data_acceptance": {
                "expected-statuses": ["2xx", "401", "403", "404", "409", "422", "503"]
            },
            "negative_data_rejection": {
                "expected-statuses": ["400", "401", "403", "404", "405", "409", "415", "422"]
            },
        },
    }
)
EACH = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """A house with a little history; no broker, so that commands end at the last step."""
    from sunmesh.config import load

    folder = tmp_path_factory.mktemp("shapes")
    url = f"sqlite:///{folder}/house.db"
    migrated(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(
            insert(tables.series).values(
                id=1, device="inverter", name="pv_power_w", unit="W", kind="gauge"
            )
        )
        start = clock.epoch_ms(NOON)
        connection.execute(
            insert(tables.sample),
            [{"series_id": 1, "ts": start + n * 10_000, "value": 500.0 + n} for n in range(50)],
        )
    engine.dispose()
    path = folder / "site.toml"
    path.write_text(f'[database]\nurl = "{url}"\n{DEVICES}', encoding="utf-8")
    made = create_app(load(path, "web", {}))
    feed = made.extensions["feed"]
    opened = feed.open

    def brief(kind: str | None, device: str | None) -> Stream | None:
        """A stream that has an end."""
        stream = opened(kind, device)
        stream.close()
        return stream

    feed.open = brief
    answered = made.wsgi_app
    made.wsgi_app = lambda environ, start: answered(environ | {"REMOTE_ADDR": "127.0.0.1"}, start)
    yield made
    made.extensions["board"].history.close()
    made.extensions["accounts"].close()


@pytest.fixture(scope="module")
def key(app: Flask) -> str:
    made: str = app.extensions["keys"].make("robot", True, None, "anna", "127.0.0.1")
    return made


@pytest.fixture(scope="module")
def described(app: Flask) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app, config=CONFIG)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("each", OPERATIONS, ids=lambda each: each.name)
def test_nothing_breaks_its_promise(
    described: schemathesis.BaseSchema, key: str, each: Operation, mode: GenerationMode
) -> None:
    if mode is GenerationMode.NEGATIVE and not (each.query or each.body or each.places):
        return
    headers = {"Authorization": f"Bearer {key}", "Accept-Encoding": "identity"}
    operation = described[ROOT + each.path][each.method]

    @EACH
    @given(case=operation.as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers)

    check()
