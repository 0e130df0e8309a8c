"""A headless Chromium for the tests.

The one on the PATH (Debian's package `chromium`), else the build that the package
`@sparticuz/chromium` of the npm registry carries: a program, the libraries it needs beyond the
ordinary ones, and a font. Nothing is downloaded by the browser tools themselves.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright

from tests.support.shell import environment
from tests.support.supabase.binaries import Missing, cache_folder, install_package, locked, node

PACKAGE = "@sparticuz/chromium"
VERSION = "147.0.0"
SHA256 = "64d813a054f76fc32b8010e305d87e6d7a45aa76ee02d36e66c03c8ca6667e8d"
NAMES = ("chromium", "chromium-browser", "google-chrome")
UNPACK = (
    "const {brotliDecompressSync} = require('node:zlib'), fs = require('node:fs');"
    "fs.writeFileSync(process.argv[2], brotliDecompressSync(fs.readFileSync(process.argv[1])));"
)
FONTS = """<?xml version="1.0"?><!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><dir>/usr/share/fonts</dir><cachedir>{folder}/font-cache</cachedir></fontconfig>"""
FLAGS = (
    "--no-sandbox",
    "--no-zygote",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--font-render-hinting=none",
)


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start a browser, and end it."""
    program, variables = find_chromium()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, args=list(FLAGS), env={**environment(), **variables}
        )
        try:
            yield browser
        finally:
            browser.close()


def find_chromium() -> tuple[Path, dict[str, str]]:
    """Find the program and the variables it needs; the first call on a machine may install it."""
    found = next((path for path in map(shutil.which, NAMES) if path), None)
    if found:
        return Path(found), {}
    folder = cache_folder() / f"chromium-{VERSION}"
    if not folder.exists():
        with locked(folder.with_name(f"{folder.name}.lock")):
            if not folder.exists():
                _install(folder)
    return folder / "chromium", {
        "LD_LIBRARY_PATH": str(folder / "lib"),
        "FONTCONFIG_FILE": str(folder / "fonts.conf"),
    }


def _install(folder: Path) -> None:
    """Unpack into a temporary folder, check, then move into place in one step."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        packed = install_package(f"{PACKAGE}@{VERSION}", Path(scratch)) / PACKAGE / "bin"
        digest = hashlib.sha256((packed / "chromium.br").read_bytes()).hexdigest()
        if digest != SHA256:
            raise Missing(f"Chromium: {PACKAGE}@{VERSION} has sha256 {digest}, not {SHA256}")
        draft = Path(scratch, "browser")
        draft.mkdir()
        _unpack(packed / "chromium.br", draft / "chromium")
        (draft / "chromium").chmod(0o755)
        for name in ("al2023", "fonts"):
            _unpack(packed / f"{name}.tar.br", draft / f"{name}.tar")
            with tarfile.open(draft / f"{name}.tar") as archive:
                archive.extractall(draft, filter="data")
            (draft / f"{name}.tar").unlink()
        (draft / "fonts.conf").write_text(FONTS.format(folder=folder), encoding="utf-8")
        draft.rename(folder)


def _unpack(source: Path, target: Path) -> None:
    command = [*node(), "-e", UNPACK, str(source), str(target)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
