"""Who reaches into the buckets: nobody but the service role."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contract.supabase.callers import Callers, everything, migrate, open_callers, stored
from tests.support.factories import make_id
from tests.support.supabase.project import SupabaseProject

STRANGERS = ("anon", "user", "other")
CALLERS = (*STRANGERS, "service")
TRUE_BYTES = b"the true model"
OBJECTS = "/storage/v1/object"

NOBODY: frozenset[str] = frozenset()
BUCKET_CALLS = frozenset(
    {"see", "list", "download", "head", "info", "sign", "upload", "overwrite", "remove"}
)
WHO_REACHES = {
    bucket: {"anon": NOBODY, "user": NOBODY, "other": NOBODY, "service": BUCKET_CALLS}
    for bucket in ("ml-models", "model-artifacts")
}


@pytest.fixture(scope="module", autouse=True)
def shared_callers(supabase: SupabaseProject) -> Iterator[Callers]:
    supabase.blank()
    migrate(supabase)
    with open_callers(supabase) as opened:
        yield opened


@pytest.fixture
def callers(project: SupabaseProject, shared_callers: Callers) -> Callers:
    assert project.gateway.requests == []
    return shared_callers


def test_every_bucket_has_a_decision_and_is_private(supabase: SupabaseProject) -> None:
    found = supabase.sql("select id, public from storage.buckets")
    assert {row["id"]: row["public"] for row in found} == dict.fromkeys(WHO_REACHES, False)


@pytest.mark.parametrize("who", CALLERS)
@pytest.mark.parametrize("bucket", WHO_REACHES)
def test_everyone_does_with_a_bucket_what_is_decided_and_no_more(
    project: SupabaseProject, callers: Callers, bucket: str, who: str
) -> None:
    caller, path = callers[who], f"{bucket}/football/m-1/model.skops"
    key = path.removeprefix(f"{bucket}/")
    callers["service"].send("POST", f"{OBJECTS}/{path}", TRUE_BYTES)
    assert stored(project) == {path: TRUE_BYTES}

    signed = caller.send("POST", f"{OBJECTS}/sign/{path}", {"expiresIn": 60})
    link = signed.json().get("signedURL", "/object/sign/none")
    listed = caller.send("POST", f"{OBJECTS}/list/{bucket}", {"prefix": "football"})
    reads = {
        "see": caller.send("GET", f"/storage/v1/bucket/{bucket}").is_success,
        "list": bool(listed.json()) and listed.is_success,
        "download": caller.send("GET", f"{OBJECTS}/{path}").content == TRUE_BYTES,
        "head": caller.send("HEAD", f"{OBJECTS}/{path}").is_success,
        "info": caller.send("GET", f"{OBJECTS}/info/{path}").is_success,
        "sign": caller.http.get(f"/storage/v1{link}").content == TRUE_BYTES,
    }
    done = {deed for deed, worked in reads.items() if worked}
    assert caller.http.get(f"{OBJECTS}/public/{path}").content != TRUE_BYTES
    changes: dict[str, list[tuple[str, str, object, dict[str, str]]]] = {
        "upload": [("POST", f"{bucket}/football/m-2/model.skops", b"mine", {})],
        "overwrite": [
            ("POST", path, b"mine, upserted", {"x-upsert": "true"}),
            ("PUT", path, b"mine, put", {}),
        ],
        "remove": [("DELETE", bucket, {"prefixes": [key]}, {}), ("DELETE", path, None, {})],
    }
    for deed, attempts in changes.items():
        before = stored(project)
        for method, place, body, headers in attempts:
            caller.send(method, f"{OBJECTS}/{place}", body, headers=headers)
        if stored(project) != before:
            done.add(deed)
    assert done == WHO_REACHES[bucket][who]
    assert (stored(project) == {path: TRUE_BYTES}) == (who != "service")


@pytest.mark.parametrize("who", STRANGERS)
def test_nobody_else_sees_makes_or_removes_a_bucket(
    project: SupabaseProject, callers: Callers, who: str
) -> None:
    before = everything(project)
    assert callers[who].send("GET", "/storage/v1/bucket").json() == []
    answers = [
        callers[who].send("POST", "/storage/v1/bucket", {"name": "mine", "public": True}),
        *(callers[who].send("DELETE", f"/storage/v1/bucket/{name}") for name in WHO_REACHES),
    ]
    assert not any(answer.is_success for answer in answers)
    assert everything(project) == before


def test_defect_26_the_log_of_a_run_is_no_file_for_everyone(
    project: SupabaseProject, callers: Callers
) -> None:
    paths = ["evaluation_log.csv", f"training-logs/{make_id(1)}.txt", f"reports/{make_id(1)}.html"]
    for path in paths:
        callers["service"].send("POST", f"{OBJECTS}/model-artifacts/{path}", TRUE_BYTES)
    for path in paths:
        for who in STRANGERS:
            for way in ("", "public/", "authenticated/"):
                answer = callers[who].send("GET", f"{OBJECTS}/{way}model-artifacts/{path}")
                assert answer.json()["statusCode"] == "404"
    assert stored(project) == {f"model-artifacts/{path}": TRUE_BYTES for path in paths}
