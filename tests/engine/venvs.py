"""Virtual environments without pip, and packages put into them by hand as an installer would."""

from __future__ import annotations

import importlib.util
import os
import venv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Venv:
    """A virtual environment of the interpreter that runs the tests."""

    path: Path

    @classmethod
    def make(cls, path: Path) -> Venv:
        venv.EnvBuilder(with_pip=False, symlinks=True).create(path)
        return cls(path)

    @property
    def site(self) -> Path:
        """Its site-packages."""
        [found] = self.path.glob("lib/python3.*/site-packages")
        return found

    def install(self, name: str, version: str, **files: str) -> None:
        """Put a distribution of single-file modules in; an older version goes, as with pip.

        `files` are module names and their source. Each file is written aside and renamed into
        place, so the directory's time changes as it does under an installer.
        """
        for old in self.site.glob(f"{name}-*.dist-info"):
            for line in (old / "RECORD").read_text().splitlines():
                recorded = self.site / line.partition(",")[0]
                recorded.unlink()
                # An installer that leaves it makes a second release within one second invisible.
                Path(importlib.util.cache_from_source(str(recorded))).unlink(missing_ok=True)
            old.rmdir()
        info = self.site / f"{name}-{version}.dist-info"
        info.mkdir()
        contents = {
            **{f"{module}.py": source for module, source in files.items()},
            f"{info.name}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
            f"{info.name}/INSTALLER": "pip\n",
        }
        contents[f"{info.name}/RECORD"] = "".join(
            f"{path},,\n" for path in [*contents, f"{info.name}/RECORD"]
        )
        for path, text in contents.items():
            aside = self.site / f"{path}.new"
            aside.write_text(text)
            os.replace(aside, self.site / path)
