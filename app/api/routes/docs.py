"""`GET /docs` and `/openapi.json`: the service's own description, for people and for programs.

One page of HTML without scripts, made of the OpenAPI document: the usual pages load theirs from other people's servers.
"""

import base64
import hashlib
import json
import re
from html import escape
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_STYLE = """
:root { color-scheme: light dark; font: 100%/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { margin: 0; } h2 { margin: 2rem 0 .5rem; } h3 { font-size: 1rem; margin: 1.25rem 0 .25rem; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .875rem; }
pre { margin: .25rem 0 .75rem; padding: .75rem; overflow: auto; max-height: 24rem; }
details { margin: .5rem 0; padding: 0 1rem; }
pre, details { border: 1px solid #8886; border-radius: .5rem; }
summary { padding: .6rem 0; cursor: pointer; overflow-wrap: anywhere; }
summary b { display: inline-block; min-width: 3.5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
"""
_STYLE_SHA256 = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_HEADERS = {
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE_SHA256}'; base-uri 'none'; "
    "frame-ancestors 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes() -> list[Route]:
    """Both are made when they are first asked for."""
    pages: list[bytes] = []

    async def document(request: Request) -> Response:
        return Response(json.dumps(request.app.openapi()), media_type="application/json")

    async def page(request: Request) -> Response:
        if not pages:
            pages.append(_page(request.app.openapi()).encode())
        return Response(pages[0], headers=_HEADERS, media_type="text/html")

    return [Route("/openapi.json", document), Route("/docs", page)]


def _page(document: dict[str, Any]) -> str:
    info = document["info"]
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation.get("tags", ["other"])[0], []).append(_operation(path, method, operation))
    sections = [f"<h2>{escape(tag)}</h2>{''.join(operations)}" for tag, operations in tags.items()]
    schemas = [
        f"<details><summary><code>{escape(name)}</code></summary>{_json(schema)}</details>"
        for name, schema in document["components"]["schemas"].items()
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(info['title'])}: API</title><style>{_STYLE}</style></head><body>"
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1><p>{escape(info['summary'])}</p>"
        '<p>The same for programs, OpenAPI 3.1: <a href="openapi.json">openapi.json</a></p>'
        f"{''.join(sections)}<h2>schemas</h2>{''.join(schemas)}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    parts = [f"<p>{_prose(operation['description'])}</p>"] if "description" in operation else []
    if "security" in operation:
        parts.append("<p>It needs an API key: <code>X-API-Key</code>, or <code>Authorization: Bearer</code>.</p>")
    if parameters := operation.get("parameters"):
        rows = [
            f"<tr><td><code>{escape(each['name'])}</code></td><td>{_prose(each.get('description', ''))}</td>"
            f"<td><code>{escape(json.dumps(each['schema'].get('default')))}</code></td></tr>"
            for each in parameters
        ]
        head = "<tr><th>parameter</th><th>what it does</th><th>default</th></tr>"
        parts.append(f"<table>{head}{''.join(rows)}</table>")
    if body := operation.get("requestBody"):
        parts.append(f"<h3>Body</h3><p>{_prose(body.get('description', ''))}</p>{_content(body['content'])}")
    for status, response in operation["responses"].items():
        parts.append(f"<h3>{escape(status)} {_prose(response.get('description', ''))}</h3>")
        parts.append(_content(response.get("content", {})))
    summary = f"<b>{escape(method.upper())}</b> <code>{escape(path)}</code> {escape(operation.get('summary', ''))}"
    return f"<details><summary>{summary}</summary>{''.join(parts)}</details>"


def _content(content: dict[str, Any]) -> str:
    """Each media type with its examples, or with its schema where it has none."""
    parts = []
    for media_type, described in content.items():
        examples = [each["value"] for each in described.get("examples", {}).values()]
        if "example" in described:
            examples.append(described["example"])
        parts.append(f"<code>{escape(media_type)}</code>")
        parts += [_json(each) for each in examples or [described.get("schema", {})]]
    return "".join(parts)


def _prose(text: str) -> str:
    return re.sub("`([^`]*)`", r"<code>\1</code>", escape(text))


def _json(value: object) -> str:
    return f"<pre tabindex='0'>{escape(json.dumps(value, indent=1))}</pre>"
