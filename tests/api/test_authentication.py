"""API keys, quotas and CORS. The form of 401 and 429 in each API is in test_problems."""

import asyncio
import hashlib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from app.main import create_app
from app.model.engine import KerasEngine
from app.server import _log_loading
from app.settings import Settings
from tests.asking import WAIT_S, Run, Standing, assert_is_problem, service
from tests.dialects import APIS, OPEN_INFERENCE, SEVEN, TENSORFLOW, assert_is_refusal, post
from tests.server import running

KEY, OTHER = "0f" * 32, "a1" * 32
HASHED, OTHER_HASHED = (f"sha256:{hashlib.sha256(key.encode()).hexdigest()}" for key in (KEY, OTHER))
OPEN = {"/", "/playground/main.js", "/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", "/docs"}
OPEN |= {"/docs/swagger-ui.css", "/openapi.json"}


async def predict(client: httpx2.AsyncClient, **headers: str) -> httpx2.Response:
    return await client.post("/predict", content=SEVEN, headers=headers)


async def predict_many(client: httpx2.AsyncClient, count: int) -> httpx2.Response:
    return await client.post("/predict/batch", files=[("files", ("seven.png", SEVEN))] * count)


# Keys


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"X-API-Key": KEY}, 200),
        ({"Authorization": f"bearer {KEY}"}, 200),
        ({"X-API-Key": KEY, "Authorization": "Basic x"}, 200),
        ({}, 401),
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": OTHER}, 401),
        ({"X-API-Key": HASHED}, 401),
        ({"Authorization": KEY}, 401),
    ],
)
async def test_a_key_is_accepted_in_either_header(seven: KerasEngine, headers: dict[str, str], status: int) -> None:
    async with service(seven, api_keys=HASHED) as client:
        assert (await predict(client, **headers)).status_code == status


async def test_every_address_needs_a_key_but_those_of_probes_and_browsers(seven: KerasEngine) -> None:
    """Unknown addresses as well, so that nobody who adds a route can forget it."""
    paths = [path for path in create_app(Settings()).openapi()["paths"] if path not in OPEN]
    assert {"/predict", "/predict/batch", "/model", TENSORFLOW, OPEN_INFERENCE} <= set(paths)

    async with service(seven, api_keys=HASHED) as client:
        for path in OPEN:
            assert (await client.get(path)).status_code == 200, path
        for path in [*paths, "/metrics", "/nowhere", "/playground", "/docs/", "/healthz/model"]:
            for method in ("GET", "POST", "OPTIONS"):
                assert (await client.request(method, path)).status_code == 401, (method, path)


def test_the_key_is_checked_before_the_body_is_read(model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="litert", api_keys=HASHED) as process:
        host, port = process.url().removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: 1000000\r\n\r\n")
            answer = caller.recv(4096)  # without a byte of the body

    assert answer.startswith(b"HTTP/1.1 401 ")


async def test_every_configured_key_is_accepted_and_its_name_is_in_the_log(
    seven: KerasEngine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """From a file and from the environment, with comments, commas and blank lines."""
    keys = {name: name * 20 for name in ("one", "two", "three")}
    one, two, three = (f"{name}:sha256:{hashlib.sha256(key.encode()).hexdigest()}" for name, key in keys.items())
    (tmp_path / "keys").write_text(f"# those of the shop\n\n{one}  # since May\n{two}\n")
    caplog.set_level("INFO", "digits")

    async with service(seven, api_keys=f"{three},{HASHED}", api_keys_file=tmp_path / "keys") as client:
        for key in (*keys.values(), KEY):
            assert (await predict(client, **{"X-API-Key": key})).status_code == 200

    logged = [record.__dict__["fields"]["key"] for record in caplog.records if record.message == "request"]
    assert logged == ["one", "two", "three", HASHED.removeprefix("sha256:")[:8]]


def test_the_documented_command_makes_a_key() -> None:
    """As docs/deployment.md has it."""
    text = (Path(__file__).parents[2] / "docs" / "deployment.md").read_text(encoding="utf-8")
    [command] = [line for line in text.splitlines() if line.startswith("key=$(")]

    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True)

    key, hashed = ran.stdout.splitlines()
    assert len(key) == 64
    [kept] = Settings(api_keys=hashed).keys
    assert kept == ("shop", hashlib.sha256(key.encode()).digest())


@pytest.mark.parametrize(
    ("host", "keys", "warned"),
    [
        ("127.0.0.1", "", False),
        ("::1", "", False),
        ("0.0.0.0", HASHED, False),
        ("0.0.0.0", "", True),
        ("digits.example", "", True),
    ],
)
def test_a_service_open_to_all_says_so_when_it_starts(
    host: str, keys: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "digits")

    _log_loading(Settings(host=host, api_keys=keys) if keys else Settings(host=host))

    assert caplog.messages[0] == "loading"
    assert ("no API keys: anyone who reaches this address may use it" in caplog.messages) is warned


# Quotas


async def test_a_batch_and_the_dialects_count_their_images_in_one_quota(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="10/minute") as client:
        assert (await post(client, TENSORFLOW, SEVEN, SEVEN)).status_code == 200
        assert (await post(client, OPEN_INFERENCE, SEVEN, SEVEN)).status_code == 200
        refused = await predict_many(client, 12)
        assert_is_problem(refused, 429, "rate_limited")
        assert "fewer images" in refused.json()["detail"]
        assert (await predict_many(client, 5)).status_code == 200  # 2, 2, 1 of the rejected batch, 5
        for path in APIS.values():
            assert_is_refusal(await post(client, path, SEVEN), path, 429, "rate_limited", "The quota is 10/minute")


async def test_each_key_has_its_own_quota(seven: KerasEngine) -> None:
    async with service(seven, api_keys=f"{HASHED},{OTHER_HASHED}", rate_limit="1/minute") as client:
        statuses = [(await predict(client, **{"X-API-Key": key})).status_code for key in (KEY, KEY, OTHER, OTHER)]
        assert statuses == [200, 429, 200, 429]
        assert (await predict(client)).status_code == 401  # not counted


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("not an address", "x" * 60_000, True),
    ],
    ids=["IPv4", "one IPv6 network", "two IPv6 networks", "IPv4 in IPv6", "one IPv4 in two forms", "no addresses"],
)
async def test_without_keys_a_client_is_its_address(seven: KerasEngine, first: str, second: str, shared: bool) -> None:
    app = create_app(Settings(rate_limit="1/minute"))
    app.state.digits.service.start(seven)
    statuses = []
    for address in (first, first, second):
        transport = httpx2.ASGITransport(app, client=(address, 1234))
        async with httpx2.AsyncClient(transport=transport, base_url="http://digits") as client:
            statuses.append((await predict(client)).status_code)
    app.state.digits.service.close()

    assert statuses == [200, 429, 429 if shared else 200]


def test_who_is_no_trusted_proxy_is_not_believed_whom_it_speaks_for(model_dir: Path) -> None:
    """Trusted ones are in tests/test_process.py."""
    with running(model_dir=model_dir, engine="litert", rate_limit="1/minute") as process:
        url = process.ready()
        answers = [
            httpx2.post(url + "/predict", content=SEVEN, headers={"X-Forwarded-For": address})
            for address in ("192.0.2.1", "192.0.2.2")
        ]

    assert [answer.status_code for answer in answers] == [200, 429]


# CORS, and pages that can be turned off


async def test_pages_of_other_origins_need_a_setting(seven: KerasEngine) -> None:
    asked = {"Origin": "https://shop.example"}
    preflight = asked | {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-api-key"}
    async with service(seven) as client:
        assert "access-control-allow-origin" not in (await predict(client, **asked)).headers
        assert (await client.options("/predict", headers=preflight)).status_code == 405

    async with service(seven, cors_origins="https://shop.example, https://b.example", api_keys=HASHED) as client:
        allowed = await client.options("/predict", headers=preflight)
        answer = await predict(client, **asked)
        stranger = await predict(client, Origin="https://other.example")

    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://shop.example"
    assert "X-API-Key" in allowed.headers["access-control-allow-headers"]
    assert answer.status_code == 401  # and the page can read why
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert "Retry-After" in answer.headers["access-control-expose-headers"]
    assert "access-control-allow-origin" not in stranger.headers


async def test_a_page_of_another_origin_may_read_that_the_service_is_overloaded(
    engine_of: Callable[[Run], KerasEngine],
) -> None:
    standing = Standing()
    async with service(engine_of(standing), cors_origins="*", max_queue=1) as client:
        first = asyncio.create_task(predict(client))
        await asyncio.to_thread(standing.entered.wait, WAIT_S)
        refused = await predict(client, Origin="https://shop.example")
        standing.let_go.set()
        await first

    assert_is_problem(refused, 503, "overloaded")
    assert refused.headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    ("setting", "paths"),
    [("playground", ["/", "/playground/main.js"]), ("docs", ["/docs", "/openapi.json"])],
)
async def test_the_playground_and_the_api_docs_can_be_turned_off(
    seven: KerasEngine, setting: str, paths: list[str]
) -> None:
    async with service(seven) as client:
        assert [(await client.get(path)).status_code for path in paths] == [200, 200]
    async with service(seven, **{setting: False}) as client:
        for path in paths:
            assert_is_problem(await client.get(path), 404, "not_found")
        assert (await predict(client)).status_code == 200


# The service fetches nothing


@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_the_url_of_an_image_is_rejected_and_not_fetched(seven: KerasEngine, prefix: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        url = f"{prefix}http://127.0.0.1:{listener.getsockname()[1]}/seven.png"
        tensor = {"name": "images", "datatype": "BYTES", "shape": [1], "data": [url]}
        bodies = [{"image": url}, {"instances": [{"b64": url}]}, {"inputs": [tensor]}]
        async with service(seven) as client:
            for path, body in zip(APIS.values(), bodies, strict=True):
                assert_is_refusal(await client.post(path, json=body), path, 400, "bad_request", "base64")
        with pytest.raises(TimeoutError):
            listener.accept()
