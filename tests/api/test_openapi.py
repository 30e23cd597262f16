"""The OpenAPI document: an example of everything, and schemathesis tests the service against it."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.authentication import is_open
from app.api.schemas import Problem
from app.main import create_app
from app.settings import Settings
from tests.dialects import OPEN_INFERENCE, TENSORFLOW
from tests.server import ROOT

CASES = 5  # per operation, beside those from the bounds of its schemas; benchmarks/results/load.md has a longer run
CHECK_S = 600  # 10 on a quiet machine


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Place, media type and description of every request and answer."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            sides = {"request": operation.get("requestBody", {})} | operation["responses"]
            for name, described in sides.items():
                for media_type, content in described.get("content", {}).items():
                    yield f"{method} {path}, {name}", media_type, content


def examples(document: dict[str, Any], content: dict[str, Any]) -> list[Any]:
    """Those of the content, or of the models that its schema refers to."""
    if "example" in content or "examples" in content:
        return [content.get("example"), *(each["value"] for each in content.get("examples", {}).values())]
    schema = content["schema"]
    models = [each["$ref"].rpartition("/")[2] for each in schema.get("anyOf", [schema]) if "$ref" in each]
    return [document["components"]["schemas"][model].get("example") for model in models]


def test_every_request_answer_and_error_has_an_example(document: dict[str, Any]) -> None:
    without = [
        f"{where}: {media_type}"
        for where, media_type, content in contents(document)
        if not any(example is not None for example in examples(document, content))
    ]
    assert without == []
    parameters = document["paths"]["/predict"]["post"]["parameters"]
    assert [each["name"] for each in parameters if not {"default", "examples"} & each["schema"].keys()] == []


@pytest.mark.parametrize("path", ["/predict", TENSORFLOW, OPEN_INFERENCE])
async def test_the_examples_of_requests_in_json_are_answered(
    client: httpx2.AsyncClient, document: dict[str, Any], path: str
) -> None:
    body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    for example in examples(document, body):
        assert (await client.post(path, json=example)).status_code == httpx2.codes.OK


@pytest.mark.parametrize("path", ["/read", "/read/batch"])
def test_a_form_of_numbers_may_hold_the_parameters(document: dict[str, Any], path: str) -> None:
    read = document["paths"][path]["post"]

    form = read["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert {each["name"] for each in read["parameters"]} < form.keys()


def test_keys_are_described_if_there_are_some(document: dict[str, Any]) -> None:
    keyed = create_app(Settings(api_keys=f"sha256:{'0f' * 32}")).openapi()

    assert "security" not in document["paths"]["/predict"]["post"]
    assert set(keyed["components"]["securitySchemes"]) == {"key", "bearer"}
    for path, operations in keyed["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == ("401" in operation["responses"]) == (not is_open(path)), path


def test_every_example_of_a_problem_is_valid_and_has_its_status(document: dict[str, Any]) -> None:
    shown = [
        (where, Problem.model_validate(example["value"]))
        for where, media_type, content in contents(document)
        if media_type == "application/problem+json"
        for example in content["examples"].values()
    ]

    assert {problem.code for where, problem in shown if where.startswith("post /predict,")} == {
        *("bad_request", "unauthorized", "too_large", "unsupported_media_type", "undecodable_image", "no_ink"),
        *("invalid_parameter", "rate_limited", "internal_error", "not_ready", "overloaded", "deadline_exceeded"),
    }
    assert [where for where, problem in shown if not where.endswith(f", {problem.status}")] == []


@pytest.mark.slow
def test_schemathesis_finds_no_contradiction(url: str, tmp_path: Path) -> None:
    checked = subprocess.run(
        [
            *(sys.executable, "-c", "from schemathesis.cli import schemathesis; schemathesis()"),
            *("--config-file", str(ROOT / "tests" / "schemathesis.toml"), "run", f"{url}/openapi.json"),
            *("--max-examples", str(CASES), "--seed", "1", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=CHECK_S,
    )

    assert checked.returncode == 0, checked.stdout
    assert "Selected: 17/17" in checked.stdout
