"""What type checkers are told about the module is what is in it, and its version is the library's."""

import ast
import inspect
import re
import sys
from pathlib import Path

import pytest

import pupil

FOLDER = Path(__file__).parents[1]
STUBS = ast.parse((FOLDER / "pupil.pyi").read_text())
CLASSES = {node.name: node for node in STUBS.body if isinstance(node, ast.ClassDef)}


def is_public(name: str) -> bool:
    return not name.startswith("_")


def parameters(function: ast.FunctionDef) -> list[tuple[str, bool]]:
    """The names of its parameters, and whether they may be left out."""
    args = function.args
    optional = [False] * (len(args.args) - len(args.defaults)) + [True] * len(args.defaults)
    optional += [default is not None for default in args.kw_defaults]
    return [(arg.arg, may) for arg, may in zip(args.args + args.kwonlyargs, optional)][1:]


def test_the_stubs_have_the_names_of_the_module():
    (names,) = (
        ast.literal_eval(node.value)
        for node in STUBS.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__"
    )
    assert names == sorted(names)
    assert set(filter(is_public, names)) == set(CLASSES) == set(filter(is_public, vars(pupil))) - {"pupil"}
    assert sorted(pupil.__all__) == names
    for name, node in CLASSES.items():
        (base,) = [base.id for base in node.bases] or ["object"]
        assert getattr(pupil, name).__base__.__name__ == base


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_the_stubs_have_the_parts_of_a_class(name):
    found, stubs = getattr(pupil, name), {node.name: node for node in CLASSES[name].body if not isinstance(node, ast.Expr)}
    assert set(filter(is_public, stubs)) == set(filter(is_public, vars(found)))
    for part, stub in stubs.items():
        is_property = any(decorator.id == "property" for decorator in stub.decorator_list)
        assert is_property == inspect.isgetsetdescriptor(vars(found)[part])
        # Python 3.9 does not know the parameters of a class made through the stable ABI.
        has_signature = not is_property and (sys.version_info >= (3, 10) if part == "__new__" else is_public(part))
        if has_signature:
            signature = inspect.signature(found if part == "__new__" else getattr(found, part)).parameters.values()
            expected = [(each.name, each.default is not each.empty) for each in signature if each.name != "self"]
            assert parameters(stub) == expected


def test_the_version_is_the_librarys():
    (version,) = re.findall(r'^version = "(.*)"$', (FOLDER.parents[1] / "Cargo.toml").read_text(), re.MULTILINE)
    assert pupil.__version__ == version
