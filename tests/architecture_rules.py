"""The rules that the source must keep, each a function from a parsed file to its offences as (line, message).

They read syntax trees only: nothing is imported, so lazy imports and code that no test reaches count.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

# Imports go only leftwards: to an earlier set of this list, or inside the own package. The set {"circuitkd"}
# is the public surface in `__init__.py`: the command line may use it, it does not know the command line.
ARROWS = (
    {"components", "accumulators"},
    {"artifacts", "provenance"},
    {"models"},
    {"tasks"},
    {"interventions"},
    {"comparison"},
    {"circuits"},
    {"roles"},
    {"distill"},
    {"zoo", "analysis", "selection"},
    {"circuit_analysis"},
    {"studies"},
    {"reports"},
    {"circuitkd"},
    {"cli"},
    {"__main__"},
)
RANK = {name: rank for rank, names in enumerate(ARROWS) for name in names}

MAX_FILE_LINES, MAX_FUNCTION_LINES = 320, 60  # aim for 300 and 50
MAX_POSITIONAL, MAX_PARAMETERS = 2, 6
# (positional, all) where the data of a function are more than two things; a key is a module or one function.
SIGNATURES = {
    "models.blocks": (6, 7),  # the operands of one step of a transformer block
    "models.flops": (3, 4),  # (model, rows, pos)
    "models.hooks.hooked_logits": (4, 6),
    "comparison.alignment.score_pairs": (3, 6),
    "comparison.robustness.slope": (3, 6),
    "circuits.graph.edge_exists": (3, 3),  # (model, sender, receiver)
    "circuits.pruning.prune": (3, 6),
    "circuits.pruning.order": (3, 3),
    "circuits.graph.key_value_component": (3, 3),
    "distill.experiment.run_experiment": (3, 6),  # (teacher, student, task), as in compare
    "distill.trainer.CircuitDistillationTrainer.__init__": (2, 7),  # the Trainer's, and what distillation adds
    "analysis.compare": (3, 6),
    "analysis.noise_curve": (3, 6),  # (teacher, student, task), as in compare
    "analysis.prepare": (3, 6),
    "roles.describe.describe_roles": (3, 6),  # (teacher, student, task), as in compare
}
# Methods whose parameters are decided by torch, by HF's Trainer or by the language.
OVERRIDES = {
    "forward",
    "backward",
    "compute_loss",
    "training_step",
    "prediction_step",
    "create_optimizer",
    "get_batch_samples",
}

HF_NAMES = frozenset(
    """c_attn c_proj c_fc q_attn wte wpe ln_1 ln_2 ln_f lm_head
    q_lin k_lin v_lin out_lin lin1 lin2 sa_layer_norm output_layer_norm
    vocab_transform vocab_projector vocab_layer_norm word_embeddings token_type_embeddings
    q_proj k_proj v_proj o_proj qkv_proj gate_proj up_proj down_proj
    embed_tokens input_layernorm post_attention_layernorm
    query_key_value dense_h_to_4h dense_4h_to_h embed_in embed_out""".split()
)
PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
UNSAFE_CALLS = {
    "eval",
    "exec",
    "torch.save",
    "yaml.load",
    "yaml.load_all",
    "yaml.full_load",
    "yaml.unsafe_load",
}
HOOK = re.compile(r"register_(module_)?(forward|backward|full_backward)(_pre)?_hook")
UNFINISHED = re.compile(r"TODO|FIXME|NotImplementedError")

Offences = Iterator[tuple[int, str]]
Rule = Callable[["Source"], Offences]
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Source:
    """One file of the package: `path` is relative to the package folder, as in "models/hooks.py"."""

    path: str
    text: str
    tree: ast.Module

    @classmethod
    def parse(cls, path: str, text: str) -> Source:
        return cls(path, text, ast.parse(text, path))

    @property
    def module(self) -> str:
        """Dotted name below the package: "models.hooks", "models" for `models/__init__.py`, "" at the top."""
        return self.path.removesuffix(".py").removesuffix("__init__").strip("/").replace("/", ".")

    @property
    def package(self) -> str:
        return self.module.split(".")[0] or "circuitkd"


def functions(source: Source) -> Iterator[tuple[FunctionNode, str, ast.AST]]:
    """Every function with its dotted name and the node that it stands in (module, class or function)."""

    def inside(parent: ast.AST, owner: ast.AST, prefix: str) -> Iterator[tuple[FunctionNode, str, ast.AST]]:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, FunctionNode):
                yield node, prefix + node.name, owner
            if isinstance(node, FunctionNode | ast.ClassDef):
                yield from inside(node, node, f"{prefix}{node.name}.")
            else:
                yield from inside(node, owner, prefix)

    yield from inside(source.tree, source.tree, "")


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """(line, absolute dotted name) of all that a file imports, at any depth; `from a import b` is "a.b"."""
    here = ["circuitkd", *source.module.split(".")] if source.module else ["circuitkd"]
    folder = here if source.path.endswith("__init__.py") else here[:-1]
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
    for call, name in calls(source):
        first = call.args[0] if call.args else None
        if name.endswith(("import_module", "__import__")) and isinstance(first, ast.Constant):
            yield call.lineno, str(first.value)


def calls(source: Source) -> Iterator[tuple[ast.Call, str]]:
    """Every call with the dotted name of what is called."""
    return ((node, ast.unparse(node.func)) for node in ast.walk(source.tree) if isinstance(node, ast.Call))


def is_public(name: str, owner: ast.AST) -> bool:
    """Whether users may call the function of this dotted name; what is defined inside a function is not."""
    hidden = any(part.startswith("_") and part != "__init__" for part in name.split("."))
    return not hidden and not isinstance(owner, FunctionNode)


def imports_point_leftwards(source: Source) -> Offences:
    if source.package not in RANK:
        yield 1, f"{source.package} has no place in the order of imports"
        return
    for line, name in imports(source):
        root, _, rest = name.partition(".")
        target = rest.split(".")[0] if rest.split(".")[0] in RANK else root
        if root == "circuitkd" and target != source.package and RANK[target] >= RANK[source.package]:
            yield line, f"{source.package} imports {name}, which is not to its left"


def files_and_functions_are_short(source: Source) -> Offences:
    lines = len(source.text.splitlines())
    if lines > MAX_FILE_LINES:
        yield 1, f"{lines} lines in the file, {MAX_FILE_LINES} allowed"
    for node, name, _ in functions(source):
        # A command's parameters are its flags, a line each: only its body is counted.
        first = node.body[0].lineno if source.package == "cli" else node.lineno
        length = (node.end_lineno or node.lineno) - first + 1
        if length > MAX_FUNCTION_LINES:
            yield node.lineno, f"{length} lines in {name}, {MAX_FUNCTION_LINES} allowed"


def parameters_are_few(source: Source) -> Offences:
    if source.package == "cli":  # there a parameter is a flag
        return
    for node, name, owner in functions(source):
        is_method = isinstance(owner, ast.ClassDef)
        if is_method and (node.name in OVERRIDES or node.name in ("__exit__", "__new__")):
            continue
        is_static = any(ast.unparse(decorator) == "staticmethod" for decorator in node.decorator_list)
        positional = len(node.args.posonlyargs + node.args.args) - (is_method and not is_static)
        total = positional + len(node.args.kwonlyargs) + bool(node.args.vararg) + bool(node.args.kwarg)
        default = SIGNATURES.get(source.module, (MAX_POSITIONAL, MAX_PARAMETERS))
        most_positional, most = SIGNATURES.get(f"{source.module}.{name}", default)
        if total > most:
            yield node.lineno, f"{total} parameters in {name}, {most} allowed"
        if positional > most_positional and is_public(name, owner):
            yield (
                node.lineno,
                f"{positional} positional parameters in {name}, {most_positional} allowed: put a *",
            )


def no_file_is_called_utils(source: Source) -> Offences:
    if "utils" in source.module.split("."):
        yield 1, "name a module after what is in it, not utils"


def only_models_hooks_registers_hooks(source: Source) -> Offences:
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Attribute) and HOOK.fullmatch(node.attr) and source.path != "models/hooks.py":
            yield node.lineno, f"{node.attr}: only models/hooks.py registers hooks"


def only_architectures_knows_hf_names(source: Source) -> Offences:
    """Attributes, names and strings in the code; prose in docstrings may name them."""
    if source.path == "models/architectures.py":
        return
    nodes = list(ast.walk(source.tree))
    prose = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.Attribute):
            text = node.attr
        elif isinstance(node, ast.Name):
            text = node.id
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            text = node.value
        else:
            continue
        for name in sorted(HF_NAMES.intersection(re.findall(r"\w+", text))):
            yield node.lineno, f"{name}: only models/architectures.py holds Hugging Face attribute names"


def only_figures_imports_plotly(source: Source) -> Offences:
    for line, name in imports(source):
        if name.split(".")[0] == "plotly" and source.path != "reports/figures.py":
            yield line, "only reports/figures.py imports plotly"


def only_cli_prints(source: Source) -> Offences:
    if source.package in ("cli", "__main__"):
        return
    for line, name in imports(source):
        if name.split(".")[0] in ("rich", "typer", "click"):
            yield line, f"{name}: only cli/ talks to the terminal"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Name) and node.id == "print":
            yield node.lineno, "print: only cli/ prints"
        elif isinstance(node, ast.Attribute) and ast.unparse(node) in ("sys.stdout", "sys.stderr"):
            yield node.lineno, f"{ast.unparse(node)}: only cli/ prints"


def nothing_unsafe_is_loaded(source: Source) -> Offences:
    for line, name in imports(source):
        if name.split(".")[0] in PICKLES:
            yield line, f"{name}: nothing is pickled; write JSON and safetensors"
    for node, name in calls(source):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if name in UNSAFE_CALLS:
            yield node.lineno, f"{name} is not allowed"
        elif name == "torch.load" and given.get("weights_only") != "True":
            yield node.lineno, "torch.load without weights_only=True"
        for option in ("allow_pickle", "trust_remote_code"):
            if given.get(option) == "True":
                yield node.lineno, f"{option}=True is not allowed"


def nothing_is_unfinished(source: Source) -> Offences:
    for number, line in enumerate(source.text.splitlines(), start=1):
        if found := UNFINISHED.search(line):
            yield number, f"{found[0]} in the source"


def everything_public_has_a_docstring(source: Source) -> Offences:
    if not ast.get_docstring(source.tree):
        yield 1, "the module has no docstring"
    for node in source.tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and not ast.get_docstring(node):
            yield node.lineno, f"class {node.name} has no docstring"
    for node, name, owner in functions(source):
        # __init__ is described by its class, an overload or a setter by the function that it belongs to.
        decorators = [ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list]
        exempt = node.name == "__init__" or {"overload", "setter"}.intersection(decorators)
        if is_public(name, owner) and not exempt and not ast.get_docstring(node):
            yield node.lineno, f"{name} has no docstring"


RULES: tuple[Rule, ...] = (
    imports_point_leftwards,
    files_and_functions_are_short,
    parameters_are_few,
    no_file_is_called_utils,
    only_models_hooks_registers_hooks,
    only_architectures_knows_hf_names,
    only_figures_imports_plotly,
    only_cli_prints,
    nothing_unsafe_is_loaded,
    nothing_is_unfinished,
    everything_public_has_a_docstring,
)
