"""The rooms of the package and who may know whom, stated once."""

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "bundle" / "overtile"

STOREYS = (
    {"geometry", "metrics"},
    {"networks", "losses", "transforms", "reports", "exports"},
    {"inferers", "data", "engines", "ngff"},
)
STOREY = {room: number for number, rooms in enumerate(STOREYS) for room in rooms}

FOREIGN = {  # what a room does not know
    "geometry": {"torch.nn", "monai", "ignite"},
    "metrics": {"torch", "monai", "ignite"},
    "networks": {"monai", "ignite"},
    "losses": {"monai", "ignite"},
    "transforms": {"ignite"},
    "reports": {"torch", "monai", "ignite"},
    "inferers": {"ignite"},
    "data": {"ignite"},
    "engines": set(),
    "ngff": {"ignite"},
    "exports": {"monai", "ignite"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))
ROOMS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def name(path):
    return path.relative_to(PACKAGE).as_posix()


def imported(path):
    """Dotted names of all that a module imports, wherever in it; relative imports made absolute."""
    here = ("overtile", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = [node.module] if node.module else []
            start = ".".join([*here[: len(here) - node.level + 1], *module]) if node.level else node.module
            yield from (f"{start}.{alias.name}" for alias in node.names)


def rooms_known_to(path):
    for dotted in imported(path):
        first, *rest = dotted.split(".")
        if first == "overtile" and rest and rest[0] in ROOMS:
            yield rest[0]


def test_every_room_has_a_storey():
    assert set(ROOMS) <= set(STOREY)
    assert set(ROOMS) <= set(FOREIGN)


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != PACKAGE], ids=name)
def test_no_import_runs_upward_or_sideways(path):
    room = path.relative_to(PACKAGE).parts[0]
    for other in rooms_known_to(path):
        assert other == room or STOREY[other] < STOREY[room], f"{room} imports {other}"


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent == PACKAGE], ids=name)
def test_what_stands_outside_the_rooms_imports_none_of_them(path):
    assert not list(rooms_known_to(path))


@pytest.mark.parametrize("path", [p for p in MODULES if p.parent != PACKAGE], ids=name)
def test_a_room_knows_only_the_libraries_of_its_storey(path):
    foreign = FOREIGN[path.relative_to(PACKAGE).parts[0]]
    for dotted in imported(path):
        assert not [library for library in foreign if (dotted + ".").startswith(library + ".")], dotted


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_imports_another_rooms_inside(path):
    """Another room is entered by its door, its ``__init__``; its modules may be moved."""
    room = path.relative_to(PACKAGE).parts[0]
    for dotted in imported(path):
        parts = dotted.split(".")
        if parts[0] == "overtile" and len(parts) > 2 and parts[1] != room:
            assert not (PACKAGE / parts[1] / f"{parts[2]}.py").exists(), dotted


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_every_module_has_a_telling_name_and_fits_in_one_reading(path):
    assert path.stem not in {"utils", "util", "helpers", "helper", "common", "base", "misc"}
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 300


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_lists_what_it_offers(room):
    module = importlib.import_module(f"overtile.{room}")
    assert module.__doc__
    assert len(module.__all__) == len(set(module.__all__)) > 0
    assert all(hasattr(module, offered) for offered in module.__all__)


def test_imports_of_all_forms_are_seen(tmp_path, monkeypatch):
    """The eyes of this file, tested."""
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    module = tmp_path / "data" / "example.py"
    module.parent.mkdir()
    module.write_text(
        "import torch.nn\nfrom overtile import losses\nfrom . import other\nfrom ..inferers import X\n"
        "def f():\n    from monai.data import Y, Z\n"
    )
    assert set(imported(module)) == {
        "torch.nn",
        "overtile.losses",
        "overtile.data.other",
        "overtile.inferers.X",
        "monai.data.Y",
        "monai.data.Z",
    }
