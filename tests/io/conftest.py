"""The golden model files, unpacked, and ways to forge them."""

import json
import zipfile
from pathlib import Path

import pytest

GOLDEN = Path(__file__).parents[1] / "golden" / "models"


@pytest.fixture(scope="session")
def golden(tmp_path_factory):
    """The folder of the golden models, with those of the two zip files in keras3/ and keras2/."""
    folder = tmp_path_factory.mktemp("golden")
    for generation in ("keras3", "keras2"):
        with zipfile.ZipFile(GOLDEN / f"{generation}.zip") as archive:
            archive.extractall(folder / generation)
    return folder


@pytest.fixture
def forged(golden, tmp_path):
    """A function that copies a .keras file with its config changed and other members replaced."""

    def forge(edit=None, source="keras3/hard_sigmoid.keras", compression=zipfile.ZIP_STORED, **members):
        target = tmp_path / "forged.keras"
        with zipfile.ZipFile(golden / source) as old:
            content = {name: old.read(name) for name in old.namelist()}
        if edit is not None:
            config = json.loads(content["config.json"])
            edit(config)
            content["config.json"] = json.dumps(config).encode()
        content |= {name.replace("__", "."): data for name, data in members.items()}
        with zipfile.ZipFile(target, "w", compression) as new:
            for name, data in content.items():
                if data is not None:
                    new.writestr(name, data)
        return target

    return forge
