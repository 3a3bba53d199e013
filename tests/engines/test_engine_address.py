"""The URL of an engine, as the log and the status page show it."""

from __future__ import annotations

import pytest

from videre.engine_url import without_secrets


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("redis://h:6379/0", "redis://h:6379/0"),
        ("redis://:pass@h:6379/0", "redis://h:6379/0"),
        ("rediss://user:p%40ss@h:6379?password=secret", "rediss://h:6379"),
        (
            "rediss://h:6379/?ssl_password=secret&ssl_ca_certs=/x",
            "rediss://h:6379/?ssl_ca_certs=/x",
        ),
        ("redis+sentinel://u:p@h:1,i:2/service", "redis+sentinel://h:1,i:2/service"),
        ("redis+cluster://[::1]:6379", "redis+cluster://[::1]:6379"),
        ("redis://:pa?ss@h", "redis://***"),
        ("redis://h?password=a@b", "redis://***"),
    ],
)
def test_an_engines_password_is_not_told(url: str, shown: str) -> None:
    """Nor its user, nor a secret in the query."""
    assert without_secrets(url) == shown
