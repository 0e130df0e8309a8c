"""`init --example`: settings and training data that show the loop at work."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Final

from ml_pipeline.config.defaults import CONFIG_FILE
from ml_pipeline.errors import ConfigError

# Files of each example by the name that they are written under.
EXAMPLES: Final = {
    "churn": {CONFIG_FILE: "churn.yaml", "churn_customers.csv": "churn_customers.csv"},
    "fraud": {CONFIG_FILE: "fraud.yaml", "fraud_payments.csv.gz": "fraud_payments.csv.gz"},
    "router": {CONFIG_FILE: "router.yaml", "router_prompts.csv": "router_prompts.csv"},
}


def write(name: str, folder: Path) -> list[str]:
    """Write the files of an example into a folder; return their names. Safe to repeat.

    Raises ConfigError, and writes nothing, when a file of such a name has other content.
    """
    packaged = resources.files("ml_pipeline") / "data"
    contents = {
        folder / target: (packaged / source).read_bytes()
        for target, source in EXAMPLES[name].items()
    }
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            raise ConfigError(
                f"{path} exists already, with other content.",
                hint="Nothing was written. Start the example in an empty folder.",
            )
    for path, content in contents.items():
        path.write_bytes(content)
    return [path.name for path in contents]
