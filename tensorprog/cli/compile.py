"""`tpc compile`: a program at each stage of its way to a kernel."""

from __future__ import annotations

import argparse

from tensorprog.cli.common import (
    UsageError,
    add_kernels,
    add_output,
    add_program,
    add_verb,
    check_output,
    emit,
    load_program,
    read_data,
)
from tensorprog.errors import ProgramError

KINDS = {
    "core": "the program in its five instructions, with a type on every line",
    "backward": "the program followed by its backward pass, in core form",
    "graph": "the families of the program and what they read, as Graphviz DOT",
    "recursion": "the moment IR: every table of second moments, with its clauses",
    "kernel": "a self-contained Python module with kernel(x1, x2=None, get=('nngp', 'ntk')), on jax and numpy",
    "jaxpr": "the kernel as JAX traces it",
    "stablehlo": "a portable artifact for jax.export.deserialize, for any N1 and N2",
}


def add(verbs) -> None:
    parser = add_verb(
        verbs,
        "compile",
        run,
        "prints a program at a stage of its way to a kernel",
        "tpc compile rnn --emit core\ntpc compile mlp --emit kernel -o my_kernel.py\n"
        "tpc compile rnn --emit stablehlo --shape x=5,8 -o rnn.stablehlo",
    )
    add_program(parser)
    listed = "; ".join(f"{kind}: {what}" for kind, what in KINDS.items())
    parser.add_argument("--emit", metavar="KIND", choices=tuple(KINDS), required=True, help=listed)
    parser.add_argument(
        "--shape",
        metavar="NAME=SIZES",
        action="append",
        default=[],
        type=_shape,
        help="for jaxpr and stablehlo: the sizes of one sample, x=5,8 for 5 tokens of 8 features; repeatable",
    )
    parser.add_argument(
        "--x1", metavar="DATA", action="append", default=[], help="for jaxpr and stablehlo: data with these sizes"
    )
    add_kernels(parser, "nngp,ntk")
    add_output(parser, "write to this file instead of stdout")


def run(arguments: argparse.Namespace) -> None:
    check_output(arguments.output)
    traced = arguments.emit in ("jaxpr", "stablehlo")
    if not traced and (arguments.shape or arguments.x1):
        raise UsageError(f"--shape and --x1 are for jaxpr and stablehlo, not for {arguments.emit}")
    if not traced and arguments.get:
        raise UsageError(f"--get is for jaxpr and stablehlo, not for {arguments.emit}")
    program = load_program(arguments)
    emit(_traced(program, arguments) if traced else _printed(program, arguments.emit), arguments.output)


def _printed(program, kind: str) -> str:
    if kind == "core":
        return program.core()
    if kind == "backward":
        return program.backward().core()
    if kind == "graph":
        from tensorprog.program.graph import to_dot

        return to_dot(program.ir)
    if kind == "recursion":
        from tensorprog.recursion import print_recursion

        return print_recursion(program.recursion) + _lowering(program.recursion)
    from tensorprog.lowering import module_source

    return module_source(program.recursion)


def _lowering(recursion) -> str:
    """The choices on the way from the recursion to a kernel; nothing where a parameter has no value yet."""
    from tensorprog.lowering import compiled

    try:
        lines = compiled(recursion).module.lowering
    except ProgramError:
        return ""
    return "\nlowering\n" + "".join(f"    {line}\n" for line in lines) if lines else ""


def _traced(program, arguments: argparse.Namespace) -> str | bytes:
    shapes = _shapes(program, arguments)
    get = arguments.get or ("nngp", "ntk")
    import jax

    from tensorprog.backend import export

    jax.config.update("jax_enable_x64", True)
    backend = program.kernel().backend
    chosen = get[0] if len(get) == 1 else get
    if arguments.emit == "jaxpr":
        return export.jaxpr(backend, shapes, chosen)
    return export.stablehlo(backend, shapes, chosen)


def _shapes(program, arguments: argparse.Namespace) -> dict[str, tuple[int, ...]]:
    """The shape of one sample of every input, checked against the program."""
    from tensorprog.arguments import bind_shapes, read_argument
    from tensorprog.program.sizes import check_sizes

    if arguments.shape and arguments.x1:
        raise UsageError("the sizes are given by --shape or by --x1, not by both")
    if arguments.x1:
        return read_argument(program.ir, read_data(program, arguments.x1, "--x1")).shapes
    names = [f.name for f in program.ir.inputs]
    if names and not arguments.shape:
        raise UsageError(f"{arguments.emit} needs the sizes of the data: --shape {names[0]}=5,8, say, or --x1")
    shapes: dict[str, tuple[int, ...]] = {}
    for name, shape in arguments.shape:
        if name is None and len(names) > 1:
            raise UsageError(f"--shape needs a name: the program reads {', '.join(names)}")
        name = names[0] if name is None and names else name
        if name in shapes:
            raise UsageError(f"--shape gives '{name}' twice")
        shapes[name] = shape
    sizes, _ = bind_shapes(program.ir, shapes, "--shape")
    check_sizes(program.ir, sizes)
    return shapes


def _shape(text: str) -> tuple[str | None, tuple[int, ...]]:
    name, equals, sizes = text.partition("=")
    try:
        shape = tuple(int(size) for size in (sizes if equals else name).split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SIZE,SIZE") from None
    if (equals and not name.strip().isidentifier()) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=SIZE,SIZE")
    return (name.strip() if equals else None), shape
