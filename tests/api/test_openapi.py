"""The OpenAPI document says the whole truth: schemathesis asks the service for what it says."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.api.schemas import Problem
from app.main import create_app
from app.settings import Settings
from tests.server import Process, running

ROOT = Path(__file__).parents[2]
CASES = 5  # of each operation, beside those that its schemas' bounds give; benchmarks/results/load.md has a longer run
CHECK_S = 600  # it takes 5 on a quiet machine


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app(Settings()).openapi()


@pytest.fixture(scope="module")
def server() -> Iterator[Process]:
    with running(engine="litert") as process:
        yield process


def contents(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where, which media type, and how it is described: of every request and every answer."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            sides = {"request": operation.get("requestBody", {})} | operation["responses"]
            for name, described in sides.items():
                for media_type, content in described.get("content", {}).items():
                    yield f"{method} {path}, {name}", media_type, content


def test_every_request_answer_and_error_has_an_example(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    def has_example(schema: dict[str, Any]) -> bool:
        return "example" in schemas.get(schema.get("$ref", "").rpartition("/")[2], {}) or any(
            "examples" in part for part in schema.get("properties", {}).values()
        )

    without = [
        f"{where}: {media_type}"
        for where, media_type, content in contents(document)
        if not content.keys() & {"example", "examples"} and not has_example(content["schema"])
    ]
    assert without == []


def test_every_problem_shown_is_one_and_of_its_status(document: dict[str, Any]) -> None:
    shown = [
        (where, Problem.model_validate(example["value"]))
        for where, media_type, content in contents(document)
        if media_type == "application/problem+json"
        for example in content["examples"].values()
    ]

    assert {problem.code for _, problem in shown} >= {"no_ink", "undecodable_image", "overloaded", "internal_error"}
    assert [where for where, problem in shown if not where.endswith(f", {problem.status}")] == []


def test_predictions_may_meet_every_error_of_the_contract(document: dict[str, Any]) -> None:
    answers = document["paths"]["/predict"]["post"]["responses"]

    codes = [code for answer in answers.values() for code in _problems(answer)]
    assert codes == [
        "bad_request",
        "unauthorized",
        "too_large",
        "unsupported_media_type",
        "undecodable_image",
        "no_ink",
        "invalid_parameter",
        "rate_limited",
        "internal_error",
        "not_ready",
        "overloaded",
        "deadline_exceeded",
    ]
    assert "Retry-After" in answers["503"]["headers"]


def _problems(answer: dict[str, Any]) -> list[str]:
    return list(answer["content"].get("application/problem+json", {"examples": {}})["examples"])


@pytest.mark.slow
def test_schemathesis_finds_nothing_that_the_document_does_not_say(server: Process, tmp_path: Path) -> None:
    url = server.url()
    server.line_with('"ready"')

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
    assert "Selected: 15/15" in checked.stdout
