"""What is installed: declared dependencies, the wheel's contents, and the scripts that install."""

from __future__ import annotations

import ast
import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Import names that differ from the name of the package that brings them.
PACKAGES = {
    "PIL": "pillow",
    "sklearn": "scikit-learn",
    "tflite_micro": "tflite-micro",
    "xdist": "pytest-xdist",
}
# Declared for what imports them: tensorflow-datasets (the first and the last two) and TensorFlow.
NOT_IMPORTED = {"importlib-resources", "tensorboard", "tensorflow-metadata", "pyarrow"}
COMMANDS = {"pytest-xdist", "ruff", "mypy"}


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def requirements(text: str) -> dict[str, Requirement]:
    """Package name to requirement; comments and empty lines are left out."""
    lines = [line.strip() for line in text.splitlines()]
    parsed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(item.name): item for item in parsed}


def imported_packages(folder: Path) -> dict[str, Path]:
    """Packages imported anywhere in a folder, also inside functions, each with one file."""
    local = {path.stem for path in folder.rglob("*.py")} | {"tfspec", "tests", "scripts"}
    local |= {path.name for path in folder.iterdir() if path.is_dir()}
    # Programs outside the package; tests import them from where they lie.
    for programs in ("tflite", "scripts"):
        local |= {path.stem for path in (ROOT / programs).rglob("*.py")}
        local |= {path.name for path in (ROOT / programs).iterdir() if path.is_dir()}
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for top in {name.partition(".")[0] for name in names}:
                if top not in sys.stdlib_module_names and top not in local:
                    found.setdefault(canonicalize_name(PACKAGES.get(top, top)), path)
    return found


def test_everything_imported_is_declared(setup_cfg: configparser.ConfigParser) -> None:
    core = requirements(setup_cfg["options"]["install_requires"])
    extras = setup_cfg["options.extras_require"]
    optional = {k: v for e in ("io", "jax", "micro") for k, v in requirements(extras[e]).items()}
    undeclared = {
        name: str(path.relative_to(ROOT))
        for name, path in imported_packages(ROOT / "tfspec").items()
        if name not in core | optional
    }
    assert undeclared == {}
    everything = core | optional | requirements(extras["dev"])
    for folder in ("tests", "scripts"):
        found = imported_packages(ROOT / folder)
        assert sorted(set(found) - set(everything)) == [], f"undeclared imports in {folder}"


def test_everything_declared_is_used(setup_cfg: configparser.ConfigParser) -> None:
    declared = set(requirements(setup_cfg["options"]["install_requires"]))
    for text in setup_cfg["options.extras_require"].values():
        declared |= set(requirements(text))
    # JAX is named in text only: Keras imports it as the backend of a subprocess. Vela is a command.
    used = {"jax", "setuptools", "ethos-u-vela", "kotlin-jupyter-kernel"}
    used |= {*NOT_IMPORTED, *COMMANDS}
    for folder in ("tfspec", "tests", "scripts"):
        used |= set(imported_packages(ROOT / folder))
    assert sorted(declared - used) == []


def test_requirements_are_within_what_setup_cfg_allows(
    setup_cfg: configparser.ConfigParser,
) -> None:
    allowed = requirements(setup_cfg["options"]["install_requires"])
    tested = requirements((ROOT / "requirements.txt").read_text(encoding="utf-8"))
    assert set(tested) == set(allowed)
    for name, item in tested.items():
        floors = [part.version for part in item.specifier if part.operator in {">=", "~="}]
        assert len(floors) == 1, f"{name} needs one lower bound in requirements.txt"
        assert allowed[name].specifier.contains(floors[0]), name
        bounded = {"<", "~="} & {part.operator for part in item.specifier}
        assert bounded, f"{name} has no upper bound in requirements.txt"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built offline from a copy: a build leaves files in the folder it runs in."""
    pytest.importorskip("setuptools", minversion="68", reason="extra `dev` brings setuptools")
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("tfspec", "tflite"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    command += ["--no-build-isolation", "--wheel-dir", str(folder), str(source)]
    subprocess.run(command, check=True, timeout=300, stdin=subprocess.DEVNULL)
    return zipfile.ZipFile(next(folder.glob("*.whl")))


def test_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    wanted = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tfspec").rglob("*")
        if path.suffix in {".py", ".j2", ".txt", ".typed"}
    }
    # What goes to devices; the Android module is a project of its own, used from a checkout.
    wanted |= {
        f"tfspec/_tflite/{path.relative_to(ROOT / 'tflite').as_posix()}"
        for path in (ROOT / "tflite").rglob("*")
        if path.is_file() and not {"android", "__pycache__"} & set(path.parts)
    }
    assert names == wanted
    assert "tfspec/_tflite/targets/cortex-m7.toml" in names
    assert "tfspec/report/templates/page.html.j2" in names


def test_wheel_describes_itself(wheel: zipfile.ZipFile) -> None:
    def read(name: str) -> str:
        found = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
        assert len(found) == 1, name
        return wheel.read(found[0]).decode("utf-8")

    metadata = Parser().parsestr(read("METADATA"))
    assert metadata["Name"] == "tfspec"
    assert SpecifierSet(metadata["Requires-Python"]) == SpecifierSet(">=3.10")
    assert {"io", "jax", "dev"} <= set(metadata.get_all("Provides-Extra") or [])
    assert "Apache License" in read("licenses/LICENSE")
    entry_points = configparser.ConfigParser()
    entry_points.read_string(read("entry_points.txt"))
    module, _, function = entry_points["console_scripts"]["tfspec"].partition(":")
    source = wheel.read(f"{module.replace('.', '/')}.py").decode("utf-8")
    defined = [getattr(node, "name", "") for node in ast.parse(source).body]
    assigned = [
        target.id
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    ]
    assert function in defined + assigned


def test_import_is_light() -> None:
    """`tfspec --help` must answer in under a second: importing TensorFlow takes several."""
    code = "import sys, tfspec, tfspec.signal; print('tensorflow' in sys.modules)"
    command = [sys.executable, "-c", code]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stdout.strip() == "False"


class Machine:
    """A folder of commands that stand in for a machine's own, and a shell that sees them first."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.bin.mkdir()
        self.environment = folder / "environment"
        self.log = folder / "pip.log"

    def command(self, name: str, body: str, folder: Path | None = None) -> Path:
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def make_environment(self, pip: str) -> None:
        """A virtual environment whose `-m pip` is `pip`, and whose Python is this one.

        The upgrade of pip itself succeeds and is not logged.
        """
        body = (
            f'case "$*" in "-m pip"*"pip>=25") exit 0;; '
            f'"-m pip"*) echo "$@" >>"{self.log}"; {pip};; esac\nexec "{sys.executable}" "$@"'
        )
        self.command("python", body, self.environment / "bin")
        (self.environment / "pyvenv.cfg").touch()

    def run(self, script: str, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {
            "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}",
            "VIRTUAL_ENV_DIR": str(self.environment),
        }
        text = f'set -euo pipefail; source "{ROOT}/scripts/_env.sh"; {script}'
        return subprocess.run(
            ["bash", "-c", text],
            env=environment | variables,
            cwd=self.bin,
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def installs(self) -> list[str]:
        return self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    machine = Machine(tmp_path)
    machine.command("ffmpeg", "exit 0")
    machine.command("apt-get", "echo unexpected apt-get >&2; exit 99")
    machine.command("id", "echo 1000")
    return machine


def test_environment_installs_once_and_again_when_asked_for_more(machine: Machine) -> None:
    machine.make_environment(pip="exit 0")
    for _ in range(2):
        result = machine.run('prepare_environment dev requirements.txt; echo "$PYTHON"')
        assert result.returncode == 0, result.stderr
        assert result.stdout.strip() == str(machine.environment / "bin" / "python")
        assert len(machine.installs()) == 1
    assert machine.installs()[0].endswith("-c requirements.txt -e .[dev]")
    assert machine.run("prepare_environment dev,io").returncode == 0
    assert machine.installs()[1].endswith("-qq -e .[dev,io]")


def test_environment_forgets_a_failed_installation(machine: Machine) -> None:
    machine.make_environment(pip="echo no such package >&2; exit 1")
    result = machine.run("prepare_environment dev; echo reached")
    assert result.returncode == 1
    assert "no such package" in result.stderr
    assert "reached" not in result.stdout
    machine.make_environment(pip="exit 0")
    assert machine.run("prepare_environment dev").returncode == 0
    assert len(machine.installs()) == 2


def test_environment_never_empties_a_folder_of_another_kind(machine: Machine) -> None:
    machine.environment.mkdir()
    (machine.environment / "thesis.txt").write_text("precious", encoding="utf-8")
    result = machine.run("prepare_environment dev")
    assert result.returncode == 1
    assert result.stderr.startswith("error: VIRTUAL_ENV_DIR=")
    assert (machine.environment / "thesis.txt").read_text(encoding="utf-8") == "precious"


def test_environment_names_the_debian_package_that_a_user_must_install(machine: Machine) -> None:
    result = machine.run('_install_debian "reads M4A" ffmpeg; echo reached')
    assert result.returncode == 1
    assert "error: Debian package ffmpeg is missing (reads M4A)" in result.stderr
    assert "sudo apt-get update && sudo apt-get install ffmpeg" in result.stderr
    assert "reached" not in result.stdout


def test_environment_installs_debian_packages_as_root(machine: Machine) -> None:
    machine.command("id", "echo 0")
    machine.command("apt-get", f'echo "apt $@" >>"{machine.log}"')
    assert machine.run('_install_debian "reads M4A" ffmpeg').returncode == 0
    assert machine.installs() == [
        "apt update -qq",
        "apt install -y -qq --no-install-recommends ffmpeg",
    ]
    machine.command("apt-get", "echo E: Unable to locate package; exit 100")
    result = machine.run('_install_debian "reads M4A" ffmpeg')
    assert result.returncode == 1
    assert "Unable to locate package" in result.stderr


def test_environment_refuses_an_old_interpreter(machine: Machine) -> None:
    old = machine.command("old-python", "exit 1")
    result = machine.run("prepare_environment dev", TFSPEC_PYTHON=str(old))
    assert result.returncode == 1
    assert result.stderr.strip() == f"error: TFSPEC_PYTHON={old} is not a Python >= 3.10"


@pytest.mark.parametrize("name", ["scripts/_env.sh", "scripts/test.sh", ".ci/run"])
def test_shell_scripts_parse(name: str) -> None:
    subprocess.run(["bash", "-n", str(ROOT / name)], check=True, timeout=60)
    assert name == "scripts/_env.sh" or os.access(ROOT / name, os.X_OK)
