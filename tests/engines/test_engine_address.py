"""How the log and the status page show the URL of an engine."""

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
def test_an_engines_password_is_not_shown(url: str, shown: str) -> None:
    """Its user and the secrets in its query are not shown either."""
    assert without_secrets(url) == shown
