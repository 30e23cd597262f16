"""Who may ask, and how often: keys, quotas, other sites' pages, in each of the dialects."""

import asyncio
import hashlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app.api.authentication import is_open
from app.main import create_app
from app.model.engine import KerasEngine
from app.server import _log_loading
from app.settings import Settings
from tests.asking import WAIT_S, assert_is_problem, service
from tests.dialects import BASE64, SEVEN, assert_is_error
from tests.server import running

KEY, OTHER = "0f" * 32, "a1" * 32
HASHED = f"sha256:{hashlib.sha256(KEY.encode()).hexdigest()}"
INSTANCES = {"instances": [{"b64": BASE64}]}
INPUTS = {"inputs": [{"name": "images", "datatype": "BYTES", "shape": [1], "data": [BASE64]}]}
TENSORFLOW, TRITON = "/v1/models/digits:predict", "/v2/models/digits/infer"
OPEN = [
    "/",
    "/playground/main.js",
    "/healthz",
    "/readyz",
    "/v2/health/live",
    "/v2/health/ready",
    "/docs",
    "/openapi.json",
]

anyio = pytest.mark.anyio


async def predict(client: httpx2.AsyncClient, **headers: str) -> httpx2.Response:
    return await client.post("/predict", content=SEVEN, headers=headers)


async def predict_many(client: httpx2.AsyncClient, count: int) -> httpx2.Response:
    return await client.post("/predict/batch", files=[("files", ("seven.png", SEVEN))] * count)


# Keys


@anyio
async def test_without_keys_everyone_may_ask(seven: KerasEngine) -> None:
    async with service(seven) as client:
        assert (await predict(client)).status_code == 200


@anyio
@pytest.mark.parametrize(
    "headers",
    [
        {"X-API-Key": KEY},
        {"Authorization": f"Bearer {KEY}"},
        {"Authorization": f"bearer {KEY}"},
        {"X-API-Key": KEY, "Authorization": "Basic x"},
    ],
)
async def test_a_key_opens_the_service_in_either_header(seven: KerasEngine, headers: dict[str, str]) -> None:
    async with service(seven, api_keys=HASHED) as client:
        assert (await predict(client, **headers)).json()["digit"] == 7


@anyio
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-API-Key": ""},
        {"X-API-Key": OTHER},
        {"X-API-Key": HASHED},
        {"X-API-Key": HASHED.removeprefix("sha256:")},
        {"Authorization": f"Bearer {OTHER}"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
    ],
    ids=["none", "empty", "wrong", "the hash", "its digits", "wrong bearer", "basic", "no scheme"],
)
async def test_without_the_key_it_stays_shut(seven: KerasEngine, headers: dict[str, str]) -> None:
    async with service(seven, api_keys=HASHED) as client:
        answer = await predict(client, **headers)

    assert_is_problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == 'Bearer realm="digits"'


@anyio
@pytest.mark.parametrize("path", [TENSORFLOW, TRITON, "/v2/models/digits", "/v1/models/digits"])
async def test_the_dialects_refuse_in_their_own_form(seven: KerasEngine, path: str) -> None:
    async with service(seven, api_keys=HASHED) as client:
        answer = await client.post(path, json=INSTANCES)

    assert_is_error(answer, 401, "An API key is needed")
    assert answer.headers["www-authenticate"] == 'Bearer realm="digits"'


@anyio
@pytest.mark.parametrize("path", OPEN)
async def test_probes_and_browsers_need_no_key(seven: KerasEngine, path: str) -> None:
    async with service(seven, api_keys=HASHED) as client:
        assert (await client.get(path)).status_code == 200


@anyio
async def test_every_other_address_needs_a_key(seven: KerasEngine) -> None:
    """Those that there are, and those that there are not: whoever adds one need not think of it."""
    paths = [path for path in create_app(Settings()).openapi()["paths"] if not is_open(path)]
    assert {"/predict", "/predict/batch", "/model", TENSORFLOW, TRITON} <= set(paths)

    async with service(seven, api_keys=HASHED) as client:
        for path in [*paths, "/metrics", "/nowhere", "/playground", "/docs/", "/healthz/model"]:
            for method in ("GET", "POST", "OPTIONS"):
                assert (await client.request(method, path)).status_code == 401, (method, path)


def test_the_key_is_asked_for_before_the_body_is_read(model_dir: Path) -> None:
    with running(model_dir=model_dir, engine="litert", api_keys=HASHED) as process:
        host, port = process.url().removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=WAIT_S) as caller:
            caller.sendall(b"POST /predict HTTP/1.1\r\nHost: digits\r\nContent-Length: 1000000\r\n\r\n")
            answer = caller.recv(4096)  # not a byte of the million has been sent

    assert answer.startswith(b"HTTP/1.1 401 ")


@anyio
async def test_every_configured_key_fits_and_its_name_is_in_the_log(
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
        ("localhost", "", False),
        ("::1", "", False),
        ("0.0.0.0", HASHED, False),
        ("0.0.0.0", "", True),
        ("::", "", True),
        ("digits.example", "", True),
    ],
)
def test_a_service_open_to_all_says_so_when_it_starts(
    host: str, keys: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "digits")

    _log_loading(Settings(host=host, api_keys=keys or ()))

    assert caplog.messages[0] == "loading"
    assert ("no API keys: anyone who reaches this address may use it" in caplog.messages) is warned


# Quotas


@anyio
async def test_a_quota_ends_in_429_and_says_when_to_come_back(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="2/minute") as client:
        assert [(await predict(client)).status_code for _ in range(2)] == [200, 200]
        answer = await predict(client)

        assert_is_problem(answer, 429, "rate_limited")
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert f"in {answer.headers['retry-after']} s" in answer.json()["detail"]
        assert (await client.get("/model")).status_code == 200  # which costs next to nothing


@anyio
@pytest.mark.parametrize(("path", "body"), [(TENSORFLOW, INSTANCES), (TRITON, INPUTS)])
async def test_the_dialects_have_the_same_quota(seven: KerasEngine, path: str, body: dict[str, Any]) -> None:
    async with service(seven, rate_limit="2/minute") as client:
        assert (await predict(client)).status_code == 200
        assert (await client.post(path, json=body)).status_code == 200
        answer = await client.post(path, json=body)

    assert_is_error(answer, 429, "The quota is 2/minute")
    assert int(answer.headers["retry-after"]) >= 1


@anyio
async def test_a_batch_counts_its_images(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="10/minute") as client:
        assert (await predict_many(client, 4)).status_code == 200
        refused = await predict_many(client, 7)
        assert_is_problem(refused, 429, "rate_limited")
        assert (await predict_many(client, 5)).status_code == 200  # 4, 1 of the one refused, 5
        assert_is_problem(await predict(client), 429, "rate_limited")


@anyio
async def test_tensors_count_their_images(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="10/minute") as client:
        answer = await client.post(TENSORFLOW, json={"instances": [{"b64": BASE64}] * 10})
        assert answer.status_code == 200
        assert_is_error(await client.post(TRITON, json=INPUTS), 429, "quota")


@anyio
async def test_a_batch_larger_than_the_quota_is_told_to_be_smaller(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="3/minute") as client:
        answer = await predict_many(client, 5)

    assert_is_problem(answer, 429, "rate_limited")
    assert "fewer images" in answer.json()["detail"]


@anyio
async def test_what_is_wrong_costs_as_well(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="1/minute") as client:
        assert (await client.post("/predict", content=b"text")).status_code == 415
        assert_is_problem(await predict(client), 429, "rate_limited")


@anyio
async def test_a_window_ends(seven: KerasEngine) -> None:
    async with service(seven, rate_limit="1/second") as client:
        assert (await predict(client)).status_code == 200
        answer = await predict(client)
        deadline = time.monotonic() + WAIT_S
        while answer.status_code == 429 and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
            answer = await predict(client)

    assert answer.status_code == 200


@anyio
async def test_each_key_has_a_quota_of_its_own(seven: KerasEngine) -> None:
    other = f"sha256:{hashlib.sha256(OTHER.encode()).hexdigest()}"
    async with service(seven, api_keys=f"{HASHED},{other}", rate_limit="1/minute") as client:
        statuses = [(await predict(client, **{"X-API-Key": key})).status_code for key in (KEY, KEY, OTHER, OTHER)]
        assert statuses == [200, 429, 200, 429]
        assert (await predict(client)).status_code == 401  # which costs nobody anything


def from_address(app: Any, address: str) -> httpx2.AsyncClient:  # noqa: ANN401 - an ASGI app
    transport = httpx2.ASGITransport(app, client=(address, 1234))
    return httpx2.AsyncClient(transport=transport, base_url="http://digits")


@anyio
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
        async with from_address(app, address) as client:
            statuses.append((await predict(client)).status_code)
    app.state.digits.service.close()

    assert statuses == [200, 429, 429 if shared else 200]


@pytest.mark.parametrize(
    ("trusted", "statuses"), [("", [200, 429]), ("127.0.0.0/8", [200, 200])], ids=["nobody", "this machine"]
)
def test_only_a_trusted_proxy_is_believed_whom_it_speaks_for(
    model_dir: Path, trusted: str, statuses: list[int]
) -> None:
    settings = {"rate_limit": "1/minute", "trusted_proxies": trusted}
    with running(model_dir=model_dir, engine="litert", **settings) as process:
        url = process.url()
        process.line_with('"ready"')
        answers = [
            httpx2.post(url + "/predict", content=SEVEN, headers={"X-Forwarded-For": address})
            for address in ("192.0.2.1", "192.0.2.2")
        ]

    assert [answer.status_code for answer in answers] == statuses


# Other sites' pages, and what can be turned off


@anyio
async def test_pages_of_other_sites_are_kept_out_unless_named(seven: KerasEngine) -> None:
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


@anyio
@pytest.mark.parametrize(
    ("setting", "paths"),
    [("playground", ["/", "/playground/main.js"]), ("docs", ["/docs", "/openapi.json"])],
)
async def test_the_page_and_the_description_can_be_turned_off(
    seven: KerasEngine, setting: str, paths: list[str]
) -> None:
    async with service(seven) as client:
        assert [(await client.get(path)).status_code for path in paths] == [200, 200]
    async with service(seven, **{setting: False}) as client:
        for path in paths:
            assert_is_problem(await client.get(path), 404, "not_found")
        assert (await predict(client)).status_code == 200


# The description


def test_the_description_tells_of_keys_where_there_are_some() -> None:
    opened, keyed = (create_app(Settings(api_keys=keys or ())).openapi() for keys in ((), HASHED))

    for document in (opened, keyed):
        assert {"401", "429"} <= set(document["paths"]["/predict"]["post"]["responses"])
        assert set(document["paths"]["/healthz"]["get"]["responses"]) == {"200"}
        assert (
            "error" in document["paths"][TRITON]["post"]["responses"]["429"]["content"]["application/json"]["example"]
        )
    assert "security" not in opened["paths"]["/predict"]["post"]
    assert set(keyed["components"]["securitySchemes"]) == {"key", "bearer"}
    for path, operations in keyed["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (not is_open(path)), path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0.2)
        yield listening


@anyio
@pytest.mark.parametrize("prefix", ["", "data:image/png;base64,"])
async def test_an_address_of_an_image_is_refused_and_not_visited(
    seven: KerasEngine, listener: socket.socket, prefix: str
) -> None:
    address = f"{prefix}http://127.0.0.1:{listener.getsockname()[1]}/seven.png"
    async with service(seven) as client:
        answer = await client.post("/predict", json={"image": address})
        errors = [
            await client.post(TENSORFLOW, json={"instances": [{"b64": address}]}),
            await client.post(TRITON, json={"inputs": [INPUTS["inputs"][0] | {"data": [address]}]}),
        ]

    assert_is_problem(answer, 400, "bad_request")
    assert "base64" in answer.json()["detail"]
    assert prefix or "fetches nothing" in answer.json()["detail"]
    for error in errors:
        assert_is_error(error, 400, "base64")
    with pytest.raises(TimeoutError):
        listener.accept()
