"""The folder list is the architecture: import arrows, sizes, who may do what, docstrings, mirrored tests."""

from __future__ import annotations

from pathlib import Path

import pytest

import architecture_rules as rules
from architecture_rules import Source

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "circuitkd"
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))


def report(offences):
    """Fail with one line for each offence, as file:line: message."""
    if offences:
        pytest.fail("\n".join(offences), pytrace=False)


def missing_tests(files, tests):
    """The files of `files` without tests/a/test_b.py; commands are tested together, in tests/cli."""
    for file in files:
        path = Path(file)
        if path.name in ("__init__.py", "__main__.py") or file.startswith("zoo/weights/"):
            continue
        if path.parts[0] == "cli":
            found = any("def test_" in test.read_text("utf-8") for test in (tests / "cli").glob("test_*.py"))
            wanted = "tests/cli/test_*.py"
        else:
            mirror = tests / path.parent / f"test_{path.name.lstrip('_')}"
            found = mirror.is_file() and "def test_" in mirror.read_text("utf-8")
            wanted = f"tests/{mirror.relative_to(tests).as_posix()}"
        if not found:
            yield f"src/circuitkd/{file}:1: no tests in {wanted}"


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
def test_source(rule):
    offences = []
    for file in FILES:
        source = Source.parse(file, (PACKAGE / file).read_text("utf-8"))
        offences += [f"src/circuitkd/{file}:{line}: {message}" for line, message in rule(source)]
    report(offences)


def test_tests_mirror_the_source():
    report(list(missing_tests(FILES, ROOT / "tests")))


def test_the_package_was_found():
    assert "components.py" in FILES
    assert "models/__init__.py" in FILES


# Each rule on code that breaks it: (rule, file, code, [(line, start of the message)]).
LONG = "def f():\n" + "    x = 1\n" * 60
CAUGHT = [
    (
        "imports_point_leftwards",
        "models/a.py",
        "import circuitkd.tasks.ioi",
        [(1, "models imports circuitkd.tasks")],
    ),
    (
        "imports_point_leftwards",
        "models/a.py",
        "from circuitkd import cli",
        [(1, "models imports circuitkd.cli")],
    ),
    (
        "imports_point_leftwards",
        "models/a.py",
        "from circuitkd import load",
        [(1, "models imports circuitkd.load")],
    ),
    (
        "imports_point_leftwards",
        "models/a.py",
        "from ..tasks import ioi",
        [(1, "models imports circuitkd.tasks.ioi")],
    ),
    (
        "imports_point_leftwards",
        "models/__init__.py",
        "from .. import tasks",
        [(1, "models imports circuitkd.tasks")],
    ),
    (
        "imports_point_leftwards",
        "models/a/b.py",
        "from ...tasks import x",
        [(1, "models imports circuitkd.tasks.x")],
    ),
    ("imports_point_leftwards", "models/a.py", "def f():\n    import circuitkd.cli", [(2, "models imports")]),
    (
        "imports_point_leftwards",
        "models/a.py",
        "importlib.import_module('circuitkd.cli')",
        [(1, "models imports")],
    ),
    ("imports_point_leftwards", "zoo/a.py", "import circuitkd.analysis", [(1, "zoo imports")]),
    (
        "imports_point_leftwards",
        "components.py",
        "import circuitkd.accumulators",
        [(1, "components imports")],
    ),
    ("imports_point_leftwards", "__init__.py", "from circuitkd.cli import main", [(1, "circuitkd imports")]),
    ("imports_point_leftwards", "helpers.py", "", [(1, "helpers has no place")]),
    ("files_and_functions_are_short", "a.py", "x = 1\n" * 321, [(1, "321 lines in the file")]),
    (
        "files_and_functions_are_short",
        "a.py",
        "\nclass A:\n    async " + LONG.replace("\n", "\n    "),
        [(3, "61 lines")],
    ),
    ("parameters_are_few", "a.py", "def _f(a, b, c, *d, e, f, **g): ...", [(1, "7 parameters in _f")]),
    ("parameters_are_few", "a.py", "def f(a, b, c): ...", [(1, "3 positional parameters in f")]),
    ("parameters_are_few", "a.py", "class A:\n    def __init__(self, a, b, c): ...", [(2, "3 positional")]),
    (
        "parameters_are_few",
        "a.py",
        "class A:\n    @staticmethod\n    def f(a, b, c): ...",
        [(3, "3 positional")],
    ),
    (
        "parameters_are_few",
        "analysis.py",
        "def compare(a, b, c, d): ...",
        [(1, "4 positional parameters in compare")],
    ),
    ("no_file_is_called_utils", "models/utils.py", "", [(1, "name a module")]),
    ("no_file_is_called_utils", "utils/a.py", "", [(1, "name a module")]),
    (
        "only_models_hooks_registers_hooks",
        "models/a.py",
        "m.register_forward_hook(f)",
        [(1, "register_forward_hook")],
    ),
    (
        "only_models_hooks_registers_hooks",
        "roles/a.py",
        "f = m.register_forward_pre_hook",
        [(1, "register_")],
    ),
    (
        "only_models_hooks_registers_hooks",
        "a.py",
        "m.register_full_backward_hook(f)",
        [(1, "register_full_backward")],
    ),
    ("only_architectures_knows_hf_names", "models/hooks.py", "block.attn.c_proj", [(1, "c_proj")]),
    ("only_architectures_knows_hf_names", "a.py", "x = f'h.{i}.self_attn.o_proj.weight'", [(1, "o_proj")]),
    ("only_architectures_knows_hf_names", "a.py", "'prose'\ngetattr(m, 'out_lin')", [(2, "out_lin")]),
    (
        "only_figures_imports_plotly",
        "reports/page.py",
        "from plotly import graph_objects",
        [(1, "only reports/fig")],
    ),
    ("only_cli_prints", "analysis.py", "print(1)\nmap(print, [])", [(1, "print"), (2, "print")]),
    ("only_cli_prints", "analysis.py", "from rich.console import Console", [(1, "rich.console.Console")]),
    ("only_cli_prints", "analysis.py", "import sys\nsys.stderr.write('x')", [(2, "sys.stderr")]),
    (
        "nothing_unsafe_is_loaded",
        "a.py",
        "import pickle\nfrom dill import loads",
        [(1, "pickle"), (2, "dill")],
    ),
    ("nothing_unsafe_is_loaded", "a.py", "torch.load(p, weights_only=False)", [(1, "torch.load without")]),
    (
        "nothing_unsafe_is_loaded",
        "a.py",
        "torch.load(p)\ntorch.save(x, p)",
        [(1, "torch.load"), (2, "torch.save")],
    ),
    (
        "nothing_unsafe_is_loaded",
        "a.py",
        "yaml.load(p)\neval('1')\nexec('1')",
        [(1, "yaml"), (2, "eval"), (3, "exec")],
    ),
    ("nothing_unsafe_is_loaded", "a.py", "np.load(p, allow_pickle=True)", [(1, "allow_pickle")]),
    ("nothing_unsafe_is_loaded", "a.py", "f(x, trust_remote_code=True)", [(1, "trust_remote_code")]),
    (
        "nothing_is_unfinished",
        "a.py",
        "x = 1\n# TODO later\nraise NotImplementedError",
        [(2, "TODO"), (3, "NotImpl")],
    ),
    ("everything_public_has_a_docstring", "a.py", "def _f(): ...", [(1, "the module")]),
    ("everything_public_has_a_docstring", "a.py", "'m'\ndef f(): ...", [(2, "f has no docstring")]),
    (
        "everything_public_has_a_docstring",
        "a.py",
        "'m'\nclass A:\n    def f(self): ...",
        [(2, "class A"), (3, "A.f")],
    ),
]
ALLOWED = [
    (
        "imports_point_leftwards",
        "tasks/a.py",
        "import torch\nfrom . import b\nfrom circuitkd.models import hooks",
    ),
    (
        "imports_point_leftwards",
        "cli/compare.py",
        "import circuitkd as ck\nfrom circuitkd import compare, reports",
    ),
    (
        "imports_point_leftwards",
        "__init__.py",
        "from circuitkd.analysis import compare\nfrom . import reports",
    ),
    ("files_and_functions_are_short", "a.py", LONG.removesuffix("    x = 1\n") + "x = 1\n" * 260),
    ("parameters_are_few", "a.py", "def f(a, b, *, c, d, e, g):\n    def inner(h, i, j): ..."),
    (
        "parameters_are_few",
        "a.py",
        "class A:\n    def f(self, a, b, *, c): ...\n    def forward(self, a, b, c): ...",
    ),
    ("parameters_are_few", "models/blocks.py", "def attend(a, b, c, d, e, f, *, g): ..."),
    ("parameters_are_few", "cli/compare.py", "def compare(a, b, c, d, e, f, g): ..."),
    ("only_models_hooks_registers_hooks", "models/hooks.py", "m.register_forward_hook(f)"),
    ("only_architectures_knows_hf_names", "models/architectures.py", "x.c_proj"),
    ("only_architectures_knows_hf_names", "models/a.py", "'''The input of c_proj.'''\nx = 'c_projection'"),
    ("only_figures_imports_plotly", "reports/figures.py", "import plotly.graph_objects"),
    ("only_cli_prints", "cli/compare.py", "import rich\nprint(1)"),
    ("nothing_unsafe_is_loaded", "a.py", "torch.load(p, weights_only=True)\nyaml.safe_load(p)\nmodel.eval()"),
    (
        "everything_public_has_a_docstring",
        "a.py",
        "'m'\nclass _A:\n    def f(self): ...\nclass B:\n    'b'\n",
    ),
]


@pytest.mark.parametrize(("rule", "file", "code", "offences"), CAUGHT)
def test_a_rule_catches(rule, file, code, offences):
    found = list(getattr(rules, rule)(Source.parse(file, code)))
    assert [line for line, _ in found] == [line for line, _ in offences]
    for (_, message), (_, start) in zip(found, offences, strict=True):
        assert message.startswith(start)


@pytest.mark.parametrize(("rule", "file", "code"), ALLOWED)
def test_a_rule_lets_pass(rule, file, code):
    assert list(getattr(rules, rule)(Source.parse(file, code))) == []


def test_a_file_without_tests_is_named(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "test_one.py").write_text("def test_it(): assert f() == 1\n")
    (tmp_path / "a" / "test_two.py").write_text("# nothing yet\n")
    files = ["__init__.py", "a/one.py", "a/two.py", "a/_three.py", "cli/demo.py", "zoo/weights/x.py"]
    assert list(missing_tests(files, tmp_path)) == [
        "src/circuitkd/a/two.py:1: no tests in tests/a/test_two.py",
        "src/circuitkd/a/_three.py:1: no tests in tests/a/test_three.py",
        "src/circuitkd/cli/demo.py:1: no tests in tests/cli/test_*.py",
    ]
    (tmp_path / "cli").mkdir()
    (tmp_path / "cli" / "test_commands.py").write_text("def test_demo(): assert f() == 1\n")
    assert list(missing_tests(files[4:], tmp_path)) == []
