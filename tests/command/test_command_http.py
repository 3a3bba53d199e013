"""The command's HTTP connections: what goes wrong with an answer."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from videre.command.http import Connection


@pytest.mark.parametrize(("text", "passes"), [("the handler is closed", True), ("odd", False)])
async def test_a_client_is_gone_before_its_answer(
    monkeypatch: pytest.MonkeyPatch, text: str, passes: bool
) -> None:
    """uvloop raises RuntimeError then: that is the end of the connection, and no fault of ours."""

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
