"""What goes out small."""

import gzip as machinery

import pytest
from flask import Flask, Response
from web.app import STATIC, create_app
from web.compress import MOST_BLUR, gzip

ASKED = {"Accept-Encoding": "gzip, deflate, br"}


@pytest.mark.parametrize("blur", [False, True])
def test_what_was_packed_is_what_it_was(blur: bool) -> None:
    for text in (b"", b"x", b"sun " * 20_000, bytes(range(256)) * 40):
        assert machinery.decompress(gzip(text, blur=blur)) == text


def test_the_length_of_a_page_tells_nothing() -> None:
    lengths = {len(gzip(b"sun " * 500, blur=True)) for _ in range(200)}
    assert len(lengths) > 20
    assert max(lengths) - min(lengths) < MOST_BLUR


@pytest.fixture
def app(board) -> Flask:
    made = board()
    return create_app(made.site, made)


def test_pages_and_data_are_packed(app: Flask) -> None:
    client = app.test_client()
    for path in ("/", "/control"):
        plain = client.get(path)
        assert "Content-Encoding" not in plain.headers
        assert "Accept-Encoding" in plain.headers["Vary"]
        packed = client.get(path, headers=ASKED)
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.data) < 0.6 * len(plain.data)
        assert packed.content_length == len(packed.data)
        assert packed.mimetype == plain.mimetype
        assert b"</html>" in machinery.decompress(packed.data)


def test_who_does_not_take_it_gets_it_plain(app: Flask) -> None:
    for asked in ("", "identity", "br", "gzip;q=0"):
        answer = app.test_client().get("/", headers={"Accept-Encoding": asked})
        assert "Content-Encoding" not in answer.headers


def test_assets_are_packed_once_and_kept(app: Flask) -> None:
    def get(path: str, **headers: str) -> Response:
        with app.test_client().get(path, headers=ASKED | headers) as answer:
            answer.get_data()
            return answer

    packed = get("/static/portal.css?v=1")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert machinery.decompress(packed.data) == (STATIC / "portal.css").read_bytes()
    assert "immutable" in packed.headers["Cache-Control"]
    etag = packed.headers["ETag"]
    assert etag.startswith("W/")
    assert get("/static/portal.css", **{"If-None-Match": etag}).status_code == 304
    assert "Content-Encoding" not in get("/static/vendor/inter.woff2").headers
    part = get("/static/portal.css", Range="bytes=0-9")
    assert part.data == (STATIC / "portal.css").read_bytes()[:10]


def test_small_and_streamed_answers_stay_as_they_are(app: Flask) -> None:
    app = Flask(__name__)
    from web.compress import compress

    compress(app)
    app.add_url_rule("/small", view_func=lambda: "small", endpoint="small")
    app.add_url_rule(
        "/parts", view_func=lambda: Response(iter(["part " * 500] * 3)), endpoint="parts"
    )
    for path in ("/small", "/parts"):
        assert "Content-Encoding" not in app.test_client().get(path, headers=ASKED).headers
