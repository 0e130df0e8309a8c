"""The files that run the loop in containers, read as their tools read them."""

from __future__ import annotations

import re
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ml_pipeline.cli import COMMANDS
from ml_pipeline.commands import init_keys
from tests.support import warm
from tests.support.shell import ROOT
from tests.support.supabase.project import SupabaseProject
from tests.support.supabase.servers import Rest

BIN = Path(sys.executable).parent
NOW = datetime(2026, 3, 14, tzinfo=UTC)
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
IMAGE = (ROOT / "Dockerfile.ml").read_text(encoding="utf-8")


def test_the_linter_has_nothing_to_say_of_the_image() -> None:
    done = subprocess.run(
        [BIN / "hadolint", "Dockerfile.ml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_of_two_stages_on_one_base_and_ends_as_nobody_in_particular() -> None:
    assert IMAGE.count("ARG BASE_IMAGE=python:3.11-slim") == 1
    assert re.findall(r"^FROM (.*)$", IMAGE, re.MULTILINE) == [
        "${BASE_IMAGE} AS build",
        "${BASE_IMAGE}",
    ]
    final = IMAGE.partition("\nFROM ${BASE_IMAGE}\n")[2]
    assert re.findall(r"^COPY (.*)$", final, re.MULTILINE) == [
        "--from=build /opt/ml_pipeline /opt/ml_pipeline"
    ]
    assert re.search(r"^USER (\d+):\d+$", final, re.MULTILINE)
    assert not re.search(r"\b(pip|apt-get|gcc)\b", final)


def test_the_image_holds_nothing_whose_digest_is_not_known() -> None:
    installs = re.findall(r"python install (.*?)(?: \\)?$", IMAGE, re.MULTILINE)
    assert installs == [
        "--require-hashes -r requirements.lock",
        "--require-hashes -r requirements-image.lock",
        "--no-deps dist/*.whl",
    ]


def test_the_build_is_given_only_what_it_copies() -> None:
    rules = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    allowed = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[1] == "*"
    copied = set()
    for line in re.findall(r"^COPY (?!--from)(.*) \S+$", IMAGE, re.MULTILINE):
        copied |= set(line.split())
    assert allowed == copied
    assert all((ROOT / path).exists() for path in allowed)


# ------------------------------------------------------------------------------ compose


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE)
    return loaded


def test_the_compose_file_is_one_by_the_specifications_own_schema() -> None:
    schema = ["--builtin-schema", "vendor.compose-spec"]
    command: list[str | Path] = [BIN / "check-jsonschema", *schema, "docker-compose.yml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_has_a_default_and_no_port_is_open_to_other_machines() -> None:
    for name, service in compose()["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        for variable, value in service.get("environment", {}).items():
            if re.search(r"KEY|SECRET|PASSWORD|TOKEN", variable):
                assert re.fullmatch(r"\$\{[A-Z_]+:-\}", value), (name, variable)
            login = re.search(r"://\w+:([^/]*)@", str(value))
            assert login is None or re.fullmatch(r"\$\{[A-Z_]+:-\}", login[1]), (name, variable)
    assert not re.search(r"eyJ[\w-]+\.", COMPOSE)


def test_every_variable_of_the_compose_file_is_one_that_people_are_told_of() -> None:
    read = set(re.findall(r"(?<!\$)\$\{([A-Z_]+)", COMPOSE))
    made = set(init_keys.compose_environment(now=NOW, new_secret="x".__mul__))
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    reported = set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE))
    assert read <= made | reported
    # What people are offered reaches the program.
    assert (made | reported) - {"COMPOSE_PROFILES"} <= read


def test_a_change_of_routes_is_a_change_of_the_gateway_and_names_are_looked_up_again() -> None:
    services = compose()["services"]
    # `up` recreates no container for a changed `configs`; the database reads its own once.
    assert [name for name, service in services.items() if "configs" in service] == ["db"]
    routes = services["gateway"]["environment"]["ROUTES"]
    assert re.search(r"resolver 127\.0\.0\.11 valid=\d+s", routes)
    # An address that stands there as a text is looked up once, when nginx starts.
    assert re.findall(r"proxy_pass (.*);", routes) == ["$$rest", "$$storage"]


def test_services_start_when_what_they_need_is_healthy_and_keep_what_they_write() -> None:
    loaded = compose()
    services, volumes = loaded["services"], loaded["volumes"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            there = services[needed]
            if how["condition"] == "service_healthy":
                assert "healthcheck" in there, (name, needed)
            # Without the profile the others have to start as well.
            if "profiles" in there and "profiles" not in service:
                assert how["required"] is False, (name, needed)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in volumes or (ROOT / source).exists(), (name, volume)
        assert "build" in service or re.search(r":v?\d", service["image"]), name
        if "build" in service:
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["command"][0] in COMMANDS
    assert services["init"]["depends_on"].keys() == {"db", "storage"}


def test_the_keys_that_init_prints_are_what_a_real_server_takes(
    supabase: SupabaseProject, tmp_path: Path
) -> None:
    done = warm.ml_pipeline("init", "--print_keys", cwd=tmp_path)
    assert re.fullmatch(r"([A-Z_]+=\S+\n)+", done.stdout)
    lines = dict(line.split("=", 1) for line in done.stdout.splitlines())
    assert len(set(lines.values())) == len(lines)
    other = warm.ml_pipeline("init", "--print_keys", cwd=tmp_path).stdout
    assert lines["JWT_SECRET"] not in other
    supabase.blank()
    supabase.sql("create table public.thing (id int); alter table thing enable row level security")
    supabase.sql("insert into thing values (1)")
    rest = Rest.start(
        supabase.folder,
        dsn=supabase.postgres.dsn("authenticator", "postgres"),
        jwt_secret=lines["JWT_SECRET"],
        max_rows=7,
    )
    try:
        answered = [_rows(rest, lines[key]) for key in ("SUPABASE_SERVICE_KEY", "ANON_KEY")]
        assert answered == [(200, b'[{"id":1}]'), (200, b"[]")]
        assert _rows(rest, supabase.service_key)[0] == 401
    finally:
        rest.stop()


def test_keys_are_never_written_over_keys(tmp_path: Path) -> None:
    command = ("init", "--print_keys", "--output", ".env")
    done = warm.ml_pipeline(*command, cwd=tmp_path)
    assert (done.code, done.json["file"]) == (0, ".env")
    env = tmp_path / ".env"
    written = env.read_text()
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    assert "JWT_SECRET=" in written
    assert written.partition("JWT_SECRET=")[2].splitlines()[0] not in done.stdout + done.stderr
    again = warm.ml_pipeline(*command, cwd=tmp_path)
    assert again.code != 0
    assert ".env is there already" in again.stderr
    assert env.read_text() == written
    nowhere = warm.ml_pipeline("init", "--print_keys", "--output", "no/folder/.env", cwd=tmp_path)
    assert nowhere.code != 0
    assert "no/folder/.env: No such file or directory" in nowhere.stderr


def _rows(rest: Rest, key: str) -> tuple[int, bytes]:
    connection = rest.connect()
    try:
        connection.request("GET", "/thing", headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()
