"""A browser without pictures: a client that keeps cookies and sends the mark of its forms."""

import re
from typing import Any

from flask import Flask
from werkzeug.test import TestResponse

PASSWORD = "the sun also rises"


class Browser:
    """Visits one app from one address."""

    def __init__(self, app: Flask, address: str = "127.0.0.1", **headers: str) -> None:
        self.app = app
        self.client = app.test_client()
        self.environ = {"REMOTE_ADDR": address, **headers}

    def get(self, path: str, **options: Any) -> TestResponse:
        options.setdefault("headers", {"Accept": "text/html"})
        with self.client.get(path, environ_overrides=self.environ, **options) as answer:
            answer.get_data()
            return answer

    def mark(self, path: str) -> str:
        """What the forms of a page carry."""
        return re.search(r'name="csrf" value="(\w+)"', self.get(path).text)[1]

    def post(self, path: str, page: str = "", **fields: Any) -> TestResponse:
        """Send a form that stands on ``page``."""
        if page:
            fields["csrf"] = self.mark(page)
        return self.client.post(path, data=fields, environ_overrides=self.environ)

    def settle(self, name: str = "anna") -> "Browser":
        answer = self.post("/setup", "/setup", name=name, password=PASSWORD)
        assert answer.status_code == 303, answer.text
        return self

    def log_in(self, name: str, password: str = PASSWORD) -> "Browser":
        answer = self.post("/login", "/login", name=name, password=password)
        assert answer.status_code == 303, answer.text
        return self

    def unlock(self) -> "Browser":
        answer = self.post("/unlock", "/account", password=PASSWORD)
        assert answer.status_code == 303, answer.text
        return self

    def cookie(self) -> str:
        found = self.client.get_cookie("sunmesh_session")
        return found.value if found else ""
