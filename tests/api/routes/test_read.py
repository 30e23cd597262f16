"""`POST /read` with a stand-in for the model: parameters, limits and errors. What is read is in tests/model."""

import json
import re
import struct
from base64 import b64encode
from typing import Any

import httpx2
import pytest

from app.model.engine import KerasEngine
from tests.asking import assert_is_problem, service
from tests.drawings import encoded
from tests.pictures import number_drawn, on_paper

NUMBER = encoded(on_paper(number_drawn("77")))
FIELDS: list[dict[str, Any]] = [
    {"name": "left", "box": [0, 0, 0.5, 1]},
    {"name": "all", "box": [0, 0, 1, 1], "cells": 2},
    {"name": "empty", "box": [0, 0, 12, 12]},
]


def form(**parameters: str) -> list[tuple[str, tuple[str | None, bytes]]]:
    """The picture and parameters, as fields of a form."""
    return [("file", ("a.png", NUMBER)), *((name, (None, text.encode())) for name, text in parameters.items())]


async def test_the_answer_is_as_the_contract_says(seven: KerasEngine) -> None:
    async with service(seven) as client:
        answer = await client.post("/read?alternatives=1", content=NUMBER)

    assert answer.status_code == httpx2.codes.OK
    assert answer.headers["server-timing"].startswith("decode;dur=")
    body = answer.json()
    assert list(body) == ["numbers", "fields", "model"]
    assert (body["fields"], body["model"]) == (None, {"name": "digits", "version": "1.2.3"})
    [number] = body["numbers"]
    assert (number["text"], number["line"], number["marks"], number["none_of_these"]) == ("77", 0, [], None)
    assert [digit["digit"] for digit in number["digits"]] == [7, 7]
    assert set(number["box"]) == set(number["digits"][0]["box"]) == {"x", "y", "width", "height"}
    assert len(number["alternatives"]) == 1
    assert number["accepted"] == (number["rejection"] is None)


async def test_fields_are_read_by_themselves(seven: KerasEngine) -> None:
    async with service(seven) as client:
        sent = form(fields=json.dumps(FIELDS))
        body = (await client.post("/read", files=sent)).json()

    assert body["numbers"] == []
    assert {name: field and field["text"] for name, field in body["fields"].items()} == {
        "left": "7",
        "all": "77",
        "empty": None,
    }
    assert body["fields"]["all"]["digits"][1]["box"]["x"] > body["fields"]["left"]["box"]["x"]


async def test_parameters_come_in_the_query_or_in_the_form(seven: KerasEngine) -> None:
    async with service(seven) as client:
        query = await client.post("/read?candidates=77&candidates=71", content=NUMBER)
        sent = form(candidates='["77", "71"]')
        both = await client.post("/read?candidates=77", files=sent)
        at_risk = await client.post("/read", files=form(accept_risk="0.0001"))

        assert (await client.post("/read", files=sent)).json() == query.json()
    assert query.json()["numbers"][0]["none_of_these"] is not None
    assert at_risk.json()["numbers"][0]["rejection"]["threshold"] == 0.9999
    assert_is_problem(both, 422, "invalid_parameter")


@pytest.mark.parametrize(
    "query",
    [
        {"digits": "0"},
        {"accept_risk": "0.2"},
        {"digits": "5-3"},
        {"digits": "four"},
        {"alternatives": "11"},
        {"candidates": "[1]"},
        {"candidates": '{"a": 1}'},
        {"candidates": "12a"},
        {"candidates": "123", "digits": "2"},
        {"fields": "[{}]"},
        {"fields": "[{"},
        {"fields": json.dumps([FIELDS[0], FIELDS[0]])},
        {"fields": json.dumps([FIELDS[0] | {"box": [0, 0, 0, 1]}])},
        {"fields": json.dumps([FIELDS[0] | {"box": [0, 0, 1e999, 1]}])},
        {"fields": json.dumps([FIELDS[0] | {"box": [0, float("nan"), 1, 1]}])},
        {"fields": json.dumps([FIELDS[0] | {"cells": 51}])},
        {"fields": json.dumps(FIELDS), "digits": "2"},
        {"digit": "4"},
        {"candidates": json.dumps(["1"] * 10_001)},
        {"candidates": "[]"},
    ],
    ids=str,
)
async def test_a_parameter_that_cannot_be_is_refused(seven: KerasEngine, query: dict[str, str]) -> None:
    async with service(seven) as client:
        sent = form(**query)
        answer = await client.post("/read", files=sent)

    assert_is_problem(answer, 422, "invalid_parameter")
    assert "Value error" not in answer.json()["detail"]


@pytest.mark.parametrize(
    ("query", "accepted"), [("accept_risk=0.1&candidates=77", True), ("accept_risk=0.0001&digits=2", False)]
)
async def test_a_number_is_accepted_at_the_risk_that_is_asked_for(
    seven: KerasEngine, query: str, *, accepted: bool
) -> None:
    async with service(seven) as client:
        answer = await client.post(f"/read?{query}", content=NUMBER)

    [number] = answer.json()["numbers"]
    assert number["accepted"] == accepted
    assert accepted or number["rejection"]["threshold"] == 0.9999


async def test_cells_take_digits_and_candidates_for_the_whole_field(seven: KerasEngine) -> None:
    async with service(seven) as client:
        sent = form(fields=json.dumps([FIELDS[1] | {"candidates": ["77", "78"]}]))
        number = (await client.post("/read", files=sent)).json()["fields"]["all"]

    assert number["text"] == "77"
    assert [other["text"] for other in number["alternatives"]] == ["78"]
    assert number["none_of_these"] > 0


async def test_parameters_in_json_would_have_no_effect_and_are_refused(seven: KerasEngine) -> None:
    async with service(seven) as client:
        answer = await client.post("/read", json={"image": b64encode(NUMBER).decode(), "digits": "3"})

    assert_is_problem(answer, 422, "invalid_parameter")
    assert "/read?digits=" in answer.json()["detail"]


async def test_a_size_below_zero_in_a_header_is_a_broken_image(seven: KerasEngine) -> None:
    header = struct.pack("<IiiHHIIiiII", 40, -300_000, 7, 1, 8, 0, 0, 0, 0, 0, 0)
    async with service(seven) as client:
        answer = await client.post("/read", content=struct.pack("<2sIII", b"BM", 1000, 0, 54) + header + bytes(946))

    assert_is_problem(answer, 422, "undecodable_image")


async def test_an_unknown_parameter_of_the_query_is_refused(seven: KerasEngine) -> None:
    async with service(seven) as client:
        answer = await client.post("/read?digit=4", content=NUMBER)

    assert_is_problem(answer, 422, "invalid_parameter")
    assert "Did you mean digits?" in answer.json()["detail"]


async def test_a_batch_has_an_entry_for_each_picture_and_an_error_costs_no_other_its_answer(seven: KerasEngine) -> None:
    sent = form(digits="2", alternatives="0")
    pictures = [("files", ("one.png", NUMBER)), ("files", ("text.txt", b"a text")), ("files", ("two.png", NUMBER))]
    async with service(seven) as client:
        alone = (await client.post("/read", files=sent)).json()
        answer = await client.post("/read/batch", files=[*sent[1:], *pictures])
        metrics = (await client.get("/metrics")).text

    assert answer.status_code == httpx2.codes.OK
    assert list(answer.json()) == ["readings", "model"]
    one, text, two = answer.json()["readings"]
    assert one == {"filename": "one.png", "reading": alone, "error": None}
    assert (text["reading"], text["error"]["code"]) == (None, "unsupported_media_type")
    assert two == one | {"filename": "two.png"}
    assert 'digits_stage_duration_seconds_count{stage="inference"} 3.0' in metrics
    assert sum(map(float, re.findall(r"digits_numbers_total{.*} (.*)", metrics))) == 3


async def test_a_batch_counts_its_pictures_in_the_quota(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="3/hour") as client:
        statuses = [
            (await client.post("/read/batch", files=[("files", ("a.png", NUMBER))] * 2)).status_code for _ in range(2)
        ]

    assert statuses == [200, 429]


async def test_a_parameter_of_a_batch_that_cannot_be_is_refused(seven: KerasEngine) -> None:
    async with service(seven) as client:
        answer = await client.post("/read/batch?digits=0", files=[("files", ("a.png", NUMBER))])

    assert_is_problem(answer, 422, "invalid_parameter")
