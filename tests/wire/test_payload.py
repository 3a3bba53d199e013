"""A Payload is replaced in place: the rest of the packet stays as its sender wrote it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fakes import packet
from hypothesis import given
from hypothesis import strategies as st
from strategies import NAMES, pairs, written_object

from videre.packets import ROLE, Decoder, json_string
from videre.payload import around_payload


def replaced(text: str, value: str = "null") -> str:
    """Return the text with its Payload replaced."""
    head, tail = around_payload(text)
    return f"{head}{value}{tail}"


def members(text: str) -> list[tuple[str, Any]]:
    """Return the top-level keys and values of a JSON object in order, repeated ones included."""
    found: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=lambda items: items)
    return found


@given(pairs(), st.data())
def test_only_the_payload_is_replaced(drawn: list[tuple[str, Any]], data: st.DataObject) -> None:
    """Other keys keep their values, order and spelling, with any white space and escapes."""
    text = data.draw(written_object(drawn))
    value = data.draw(st.sampled_from([ROLE[True], ROLE[False], json_string(["a", '"\\'])]))
    Decoder(None).decode(text)  # only accepted packets have their Payload replaced
    head, tail = around_payload(text)
    result = f"{head}{value}{tail}"

    *_, last = (at for at, (key, _) in enumerate(members(text)) if key == "Payload")
    expected = [
        (key, "" if key == "Payload" and at != last else old)
        for at, (key, old) in enumerate(members(text))
    ]
    expected[last] = ("Payload", json.loads(value))
    assert members(result) == expected
    assert text.endswith(tail)
    if sum(key == "Payload" for key, _ in members(text)) == 1:
        assert text.startswith(head)
        old = text[len(head) : len(text) - len(tail)]
        assert old == old.strip()
        assert members(f"[{old}]") == [members(text)[last][1]]


@given(st.data(), NAMES)
def test_the_payload_is_in_neither_half(data: st.DataObject, secret: str) -> None:
    """Earlier Payloads of a packet that repeats the key are not, either."""
    secret = f"<secret {secret.encode().hex()}>"
    values = st.sampled_from(
        [secret, {"Payload": secret}, [secret], {secret: 1}, [[{"a": secret}]]]
    )
    keys: list[tuple[str, Any]] = [("Header", {"Event": "connect", "UserId": "a", "RoomId": "r"})]
    keys += [("Payload", value) for value in data.draw(st.lists(values, min_size=1, max_size=3))]
    text = data.draw(written_object(data.draw(st.permutations(keys))))
    shown = replaced(text)
    assert secret not in json.dumps(members(shown))
    assert secret not in shown


@pytest.mark.parametrize(
    "value",
    [
        '""', '"a"', '"\\""', '"\\\\"', '"}"', '"{\\"Payload\\":1}"', "{}", "{ }", '{"a":{"b":[]}}',
        '{"Payload":1}', "[]", '[ "]" ]', "null", "true", "false", "0", "-1.5e+10",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "frame", ['"Payload":{},"x":1', '"Payload" :\n{} , "x":1', '"x":1,"Payload":{}']
)
def test_values(value: str, frame: str) -> None:
    """Every kind of value is replaced, first or last, with and without white space."""
    text = f"{{{frame.replace('{}', value)}}}"
    assert replaced(text, "VALUE") == f"{{{frame.replace('{}', 'VALUE')}}}"


@pytest.mark.parametrize(
    ("text", "result"),
    [
        ('{"Payload":"a","Payload":"b"}', '{"Payload":"","Payload":NEW}'),
        ('{"Payload":{"a":1},"x":2,"Payload":null}', '{"Payload":"","x":2,"Payload":NEW}'),
        ('{"Payload":1,"Payload":2,"Payload":3}', '{"Payload":"","Payload":"","Payload":NEW}'),
        ('{"\\u0050ayload":1,"Payload":2}', '{"\\u0050ayload":"","Payload":NEW}'),
        (
            '{"Payload":1,"\\u0050aylo\\u0061d" : [2] }',
            '{"Payload":"","\\u0050aylo\\u0061d" : NEW }',
        ),
    ],
)
def test_of_repeated_keys_the_last_counts(text: str, result: str) -> None:
    """JSON parsers take the last Payload: it is replaced, and earlier ones are emptied."""
    assert replaced(text, "NEW") == result


@pytest.mark.parametrize(
    "others",
    [
        '"payload":1', '"Payload ":1', '"x":"Payload"', '"x":{"Payload":1}', '"x":[{"Payload":1}]',
        '"x":"\\"Payload\\":"', '"x":["Payload"]', '"\\\\":1', '"\\"":"\\\\\\""', '"":""',
    ],
)  # fmt: skip
def test_lookalikes_of_a_payload_stay(others: str) -> None:
    """Other keys, values, and deeper parts of the packet are unchanged."""
    for frame in ("{OTHERS,'Payload':VALUE}", "{'Payload':VALUE,OTHERS}"):
        frame = frame.replace("'", '"').replace("OTHERS", others)
        assert replaced(frame.replace("VALUE", "1"), "NEW") == frame.replace("VALUE", "NEW")


def test_an_answer_is_json_in_a_string() -> None:
    """A role and a list of users are strings that contain JSON, as in the original."""
    assert ROLE == {True: '"true"', False: '"false"'}
    assert json_string(["peer1", "peer2"]) == r'"[\"peer1\",\"peer2\"]"'
    assert json_string([]) == '"[]"'
    hostile = ['"', "\\", "\u2028", "</script>", "\U0001f600"]
    assert json.loads(json.loads(json_string(hostile))) == hostile


def test_a_large_packet_of_many_keys() -> None:
    """A packet of thousands of keys is scanned once."""
    text = packet("ping", "a", "r")[:-1] + "".join(f',"key{n}":[{n}]' for n in range(4000)) + "}"
    head, tail = around_payload(text)
    assert head.endswith('"Payload": ')
    assert f'{head}"{{}}"{tail}' == text


@pytest.mark.parametrize("levels", [8, 9, 100, 1000])
@pytest.mark.parametrize("place", ["before", "earlier", "last"])
def test_values_of_any_depth(place: str, levels: int) -> None:
    """They are skipped, emptied or replaced whole, wherever they stand."""
    deep = "[" * levels + "]" * levels
    before, earlier, last = (
        deep if place == each else "1" for each in ("before", "earlier", "last")
    )
    start = f'{{"Header":{{}},"x":{before},"Payload":'
    text = f'{start}{earlier},"Payload":{last}}}'
    assert replaced(text) == f'{start}"","Payload":null}}'


def test_a_text_that_ends_within_a_payload_is_no_packet() -> None:
    """Only what parsed may come here."""
    with pytest.raises(ValueError, match="no packet"):
        around_payload('{"Payload":' + "[" * 9 + "]" * 9)
