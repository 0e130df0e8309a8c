"""One life in a folder of its own, and what did not hold in it."""

from __future__ import annotations

import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from ml_pipeline.config.environment import StoreSettings
from tests.support.lives.life import Kill, Life
from tests.support.lives.place import Site


def lived(
    seed: int,
    *,
    settings: StoreSettings | None = None,
    kill: Kill | None = None,
    verbose: bool = False,
) -> str:
    """Live a life in a folder of its own; what did not hold, or nothing.

    `settings` name a store that lives share; without them each has its own, an embedded one.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"life-{seed}-"))
    life: Life | None = None
    try:
        site = Site.embedded(folder) if settings is None else Site.at(settings, folder)
        life = Life.born(seed, site, kill)
        life.live()
    except Exception:  # noqa: BLE001 - whatever it is, it is shown with its seed
        history = [] if life is None else life.history
        return "\n".join([f"seed {seed}", *history, traceback.format_exc()])
    finally:
        if life is not None:
            life.site.store.close()
        shutil.rmtree(folder, ignore_errors=True)
    if verbose:
        sys.stdout.write("\n".join(life.history) + "\n")
    return ""
