"""Images under the names of `Dockerfile.ml` and `docker-compose.yml`, made without a registry.

One Debian holds all of it: Python with the wheels that a build asks for, PostgreSQL, nginx, wget.
What they do not prove: musl, the extensions and settings of supabase/postgres, the real storage
server, the exact versions.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import yaml

from tests.support.compose.engine import Engine
from tests.support.shell import ROOT
from tests.support.supabase.binaries import cache_folder, find_postgrest

BASE = "python:3.11-slim"
PACKAGES = "python3,python3-venv,python3-pip,ca-certificates,nginx-light,wget,postgresql-15"
IMAGES = Path(__file__).with_name("images")
SUPPORT = ROOT / "tests" / "support"
LOCKS = ("requirements.lock", "requirements-image.lock")
BUILDER = "hatchling>=1.27"
RECIPES = {
    "db": """
        COPY database.sh postgresql.conf pg_hba.conf roles.sql database.sql /stand_in/
        RUN cp /stand_in/*.conf /etc/postgresql/
        RUN touch /etc/postgresql/pg_ident.conf && mkdir -p /docker-entrypoint-initdb.d/init-scripts
        ENV PATH=/usr/lib/postgresql/15/bin:$PATH
        ENTRYPOINT ["/stand_in/database.sh"]
        CMD ["postgres", "-c", "config_file=/etc/postgresql/postgresql.conf"]
        """,
    "rest": """
        COPY postgrest /bin/postgrest
        USER 1000
        CMD ["/bin/postgrest"]
        """,
    "storage": """
        RUN pip install psycopg[binary] pyjwt
        COPY storage_server.py /stand_in/
        COPY tests /stand_in/tests
        ENV PYTHONPATH=/stand_in PYTHONUNBUFFERED=1
        CMD ["python", "/stand_in/storage_server.py"]
        """,
    "gateway": """
        COPY nginx.conf /etc/nginx/nginx.conf
        CMD ["nginx", "-g", "daemon off;"]
        """,
}


def make_images(engine: Engine, folder: Path) -> None:
    """Make the base and the images of the profile `local` known to the engine."""
    _make_base(engine, folder)
    context = folder / "context"
    shutil.copytree(IMAGES, context)
    shutil.copy(find_postgrest(), context / "postgrest")
    for name in ("roles.sql", "database.sql"):
        shutil.copy(SUPPORT / "supabase" / name, context)
    package = context / "tests" / "support"
    shutil.copytree(SUPPORT / "supabase", package / "supabase")
    for empty in (package.parent, package):
        (empty / "__init__.py").touch()
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]
    for service, recipe in RECIPES.items():
        (context / "Dockerfile").write_text(f"FROM {BASE}\n{recipe}")
        engine.docker("build", "--quiet", "--tag", services[service]["image"], context)


def _make_base(engine: Engine, folder: Path) -> None:
    root = folder / "root"
    archive = cache_folder() / "compose-base-1.tar"
    if archive.exists():
        root.mkdir()
        _run("tar", "--directory", root, "--extract", "--file", archive)
    else:
        _run("debootstrap", "--variant=minbase", f"--include={PACKAGES}", "bookworm", root)
        shutil.rmtree(root / "var" / "cache" / "apt")
        draft = archive.with_suffix(".draft")
        _run("tar", "--directory", root, "--create", "--file", draft, ".")
        draft.rename(archive)
    (root / "usr" / "bin" / "python").symlink_to("python3")
    for mark in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
        mark.unlink()
    # The containers have no way out: what pip asks for is there.
    (root / "etc" / "pip.conf").write_text("[global]\nno-index = true\nfind-links = /wheels\n")
    _fetch_wheels(root / "wheels")
    packed = subprocess.run(["tar", "-C", root, "-c", "."], check=True, capture_output=True)  # noqa: S607
    path = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    engine.docker("import", "--change", path, "-", BASE, given=packed.stdout)
    shutil.rmtree(root)


def _fetch_wheels(folder: Path) -> None:
    locked = [("--require-hashes", "-r", str(ROOT / name)) for name in LOCKS]
    for wanted in (*locked, (BUILDER,)):
        _run(
            sys.executable, "-m", "pip", "download", "--quiet", "--dest", folder,
            "--python-version", "3.11", "--only-binary", ":all:", *wanted,
        )  # fmt: skip


def _run(*command: str | Path) -> None:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
