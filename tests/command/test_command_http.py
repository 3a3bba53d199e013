"""Failing answers on the command's HTTP connections."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from videre.command.http import Connection


@pytest.mark.parametrize(("text", "passes"), [("the handler is closed", True), ("odd", False)])
async def test_a_client_disconnects_before_its_answer(
    monkeypatch: pytest.MonkeyPatch, text: str, passes: bool
) -> None:
    """uvloop then raises RuntimeError, which ends the connection and is not our fault."""

    async def refuses(*_: object) -> Any:
        raise RuntimeError(text)

    monkeypatch.setattr(web.RequestHandler, "finish_response", refuses)
    connection: Any = Connection.__new__(Connection)
    answer = web.Response()
    if passes:
        assert await connection.finish_response(None, answer, None) == (answer, True)
    else:
        with pytest.raises(RuntimeError, match=text):
            await connection.finish_response(None, answer, None)
