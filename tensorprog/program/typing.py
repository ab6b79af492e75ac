"""Type inference for `.netsor` expressions (language: Types).

A G-var stays Gaussian under MatMul and under linear combinations with numbers or C's; any other
coordinatewise function makes an H-var. While recursive families are still being inferred, an unknown
type is None and joins with whatever else is there.
"""

from __future__ import annotations

from typing import TypeGuard

from tensorprog.errors import ProgramError, Span, did_you_mean
from tensorprog.language import syntax
from tensorprog.program.scope import CORE, MAPS, REDUCTIONS, Scope, given, not_a_number, wrong_count
from tensorprog.program.substitution import subexpressions
from tensorprog.program.types import Constant, Data, Matrix, Position, Process, Scalar, Type, Vector

NUMBER = Constant()
MINIMUM_ARGUMENTS = {"max": 2, "min": 2}


def infer(e: syntax.Expr, scope: Scope) -> Type | None:
    """The type of an expression; None where it depends on a family whose type is not known yet.

    Raises ProgramError where the types do not fit.
    """
    match e:
        case syntax.Number():
            return NUMBER
        case syntax.Name(name):
            return _name(name, (), e.span, scope)
        case syntax.Index(name, indices):
            for i in indices:
                scope.affine(i)
            return _name(name, indices, e.span, scope)
        case syntax.Transpose(operand):
            return _transpose(operand, scope)
        case syntax.Negate(operand):
            return _linear_image(infer(operand, scope), e.span)
        case syntax.Binary("@", left, right):
            return matmul_type(infer(left, scope), infer(right, scope), left, right)
        case syntax.Binary(op, left, right):
            return _binary(op, left, right, e.span, scope)
        case syntax.Conditional(a, _, b) | syntax.Guard(a, b):
            return _either(a, b, e.span, scope)
        case syntax.Call(name, arguments, keywords):
            return _call(name, arguments, keywords, e.span, scope)
        case syntax.DerivativeCall(function, argument, arguments, keywords):
            scope.derivative(function, argument, e.span)
            return coordinatewise([infer(a, scope) for a in (*arguments, *(v for _, v in keywords))], e.span)
        case syntax.Reduction(name, binders, body, _):
            return _reduction(name, binders, body, e, scope)
        case syntax.Bracket(operands, width):
            return _bracket(operands, width, scope, e.span)
    raise AssertionError(e)


def _name(name: str, indices: tuple, span: Span, scope: Scope) -> Type | None:
    if not indices and (name in scope.indices or name in scope.parameters or name == "pi"):
        if name in scope.parameters and scope.parameters[name].kind == "function":
            raise ProgramError(f"'{name}' is a function: write {name}(…)", span)
        return NUMBER
    if not indices and name in scope.features:
        return NUMBER
    if not indices and name in scope.widths:
        raise ProgramError(f"the width '{name}' goes to infinity: it belongs in laws, Moments and outputs only", span)
    if name not in scope.ranges:
        if indices and (name in scope.parameters or name in scope.indices):
            raise ProgramError(f"'{name}' has no indices", span)
        raise scope.undefined(name, span)
    axes = scope.ranges[name]
    if len(indices) != len(axes):
        wanted = "no index" if not axes else f"{len(axes)} ind{'ex' if len(axes) == 1 else 'ices'}"
        raise ProgramError(f"'{name}' has {wanted}, {given(len(indices))}", span)
    t = scope.types.get(name)
    if isinstance(t, Position):
        raise ProgramError(
            f"'{name}' holds indices: it stands in the index of a family",
            span,
            hint=f"with vector E[k = 1..{t.size}] : G(n), read E[{_written(name, len(axes))}]",
        )
    return t


def _written(name: str, axes: int) -> str:
    return f"{name}[…]" if axes else name


def _transpose(operand: syntax.Name | syntax.Index, scope: Scope) -> Type | None:
    inner = infer(operand, scope)
    if isinstance(inner, Matrix):
        return Matrix(inner.columns, inner.rows)
    if isinstance(inner, Vector) or inner is None:
        raise ProgramError(
            "the transpose of a vector stands only in an output, as in v.T @ x / sqrt(n)",
            operand.span,
            hint="a Moment of two vectors is <x, y> / n",
        )
    raise ProgramError(f"only matrices have a transpose, this is {inner}", operand.span)


def matmul_type(left: Type | None, right: Type | None, le: syntax.Expr, re: syntax.Expr) -> Type | None:
    """The type of W @ x."""
    if left is None:
        return None
    if not isinstance(left, Matrix):
        hint = "coordinatewise products are written *" if isinstance(left, Vector) else None
        raise ProgramError(f"left of @ stands a matrix, not {left}", le.span, hint=hint)
    if right is None or (isinstance(right, Constant) and is_zero(re)):
        return Vector(left.rows, True)
    if isinstance(right, Matrix):
        raise ProgramError(
            "a product of two matrices is not an instruction: @ takes a vector on its right",
            re.span,
            hint="W @ (V @ x) applies V first",
        )
    size = right.width if isinstance(right, Vector) else right.size if isinstance(right, Data) else None
    if size is None:
        raise ProgramError(f"right of @ stands a vector or data, not {_a(right)}", re.span)
    if size != left.columns:
        raise ProgramError(f"{left} cannot multiply {right}: the sizes {left.columns} and {size} differ", re.span)
    return Vector(left.rows, True)


def _a(t: Type) -> str:
    return "a scalar C" if isinstance(t, Scalar) else "a random scalar" if isinstance(t, Process) else str(t)


def _described(t: Type | None) -> str:
    return "something not yet known" if t is None else "data" if isinstance(t, Data) else _a(t)


def _bias_of_the_output(name: str) -> str:
    return f"a bias of the output is a random scalar: declare scalar {name} ~ N(0, 1)"


def _not_in_output(t: Type | None, e: syntax.Expr) -> ProgramError:
    """The error of what is added to a readout and is neither a readout nor a random scalar."""
    name = e.name if isinstance(e, syntax.Name | syntax.Index) else "b"
    hint = _bias_of_the_output(name)
    if isinstance(t, Constant | Scalar):
        hint = "a number shifts the mean, not the covariance: add it to the predictions, or take it from the targets"
    return ProgramError(
        f"a readout is added to readouts and to random scalars, not to {_described(t)}", e.span, hint=hint
    )


def is_zero(e: syntax.Expr) -> bool:
    """Whether an expression is the literal 0, plain or as an instruction."""
    match e:
        case syntax.Number(text):
            return float(text) == 0
        case syntax.Negate(operand):
            return is_zero(operand)
        case syntax.Guard(a, b):
            return is_zero(a) and is_zero(b)
        case syntax.Conditional(a, _, b):
            return is_zero(a) and is_zero(b)
        case syntax.Call("LinComb" | "Nonlin" | "Moment", (inner,)):
            return is_zero(inner)
    return False


def _linear_image(t: Type | None, span: Span) -> Type | None:
    if isinstance(t, Matrix):
        raise ProgramError("matrices are only multiplied with vectors: W @ x", span)
    return t


def join(a: Type | None, b: Type | None, span: Span) -> Type | None:
    """The type of something that is either a or b, or of their sum."""
    if a is None or isinstance(a, Constant):
        if isinstance(a, Constant) and b is None:
            return None
        return _linear_image(b, span) if b is not None else a
    if b is None or isinstance(b, Constant):
        return _linear_image(a, span)
    for t in (a, b):
        _linear_image(t, span)
    match a, b:
        case Vector(m, g), Vector(n, h):
            if m != n:
                raise ProgramError(f"vectors of different widths, {a} and {b}", span)
            return Vector(m, g and h)
        case Data(m), Data(n):
            if m != n:
                raise ProgramError(f"data of different sizes, {a} and {b}", span)
            return a
        case Scalar(), Scalar():
            return a
        case Process(), Process():
            return a
        case (Scalar(), Vector(n, _)) | (Vector(n, _), Scalar()):
            return Vector(n, False)
        case (Scalar(), Data()) | (Data(), Scalar()):
            return a if isinstance(a, Data) else b
    if Process() in (a, b):
        raise ProgramError(
            f"a readout or a random scalar and {_a(b if isinstance(a, Process) else a)} do not go together",
            span,
            hint="a bias within the network is a vector: declare vector b : G(n)",
        )
    raise ProgramError(f"{a} and {b} do not go together", span)


def coordinatewise(types: list[Type | None], span: Span) -> Type | None:
    """The type of a nonlinear coordinatewise expression of these."""
    result: Type | None = NUMBER
    unknown = False
    for t in types:
        if isinstance(t, Process):
            raise ProgramError("a readout v.T @ x and a random scalar are outputs: nothing is computed from them", span)
        if t is None:
            unknown = True
            continue
        result = join(result, Vector(t.width, False) if isinstance(t, Vector) else t, span)
    return None if unknown and not isinstance(result, Vector) else result


def _binary(op: str, left: syntax.Expr, right: syntax.Expr, span: Span, scope: Scope) -> Type | None:
    if op == "mod":
        raise not_a_number(span)
    a, b = infer(left, scope), infer(right, scope)
    for t in (a, b):
        if isinstance(t, Matrix):
            raise ProgramError("matrices are only multiplied with vectors: W @ x", span)
    if op in "+-":
        if isinstance(a, Process) != isinstance(b, Process) and not (is_zero(left) or is_zero(right)):
            t, other = (b, right) if isinstance(a, Process) else (a, left)
            raise ProgramError(
                f"a random scalar is added to readouts v.T @ x and to other random scalars, not to {_described(t)}",
                other.span,
                hint="a bias within the network is a vector: declare vector b : G(n)",
            )
        total = join(a, b, span)
        for t, other in ((a, right), (b, left)):
            # A number added to a Gaussian vector makes an H: only G's and numbers times G's are Gaussian.
            if isinstance(t, Vector) and t.gaussian and isinstance(infer(other, scope), Constant | Scalar):
                if not is_zero(other):
                    return Vector(t.width, False)
        return total
    if op == "*":
        for s, t in ((a, b), (b, a)):
            if isinstance(s, Constant | Scalar):
                return t if not isinstance(t, Constant) else s
        return coordinatewise([a, b], span)
    if op == "/" and isinstance(b, Constant | Scalar):
        return b if isinstance(a, Constant) else a
    return coordinatewise([a, b], span)


def _either(a: syntax.Expr, b: syntax.Expr, span: Span, scope: Scope) -> Type | None:
    s, t = infer(a, scope), infer(b, scope)
    if s is None and isinstance(t, Constant):
        return None  # as the other way round: W @ (h[t+1] else 0) with h not yet known
    both = join(s, t, span)
    number = (isinstance(s, Constant) and not is_zero(a)) or (isinstance(t, Constant) and not is_zero(b))
    return Vector(both.width, False) if isinstance(both, Vector) and number else both


def _call(name: str, arguments: tuple, keywords: tuple, span: Span, scope: Scope) -> Type | None:
    if name in CORE:
        return _instruction(name, arguments, span, scope)
    if name in REDUCTIONS + MAPS and not (name in MINIMUM_ARGUMENTS and len(arguments) >= MINIMUM_ARGUMENTS[name]):
        raise ProgramError(f"{name} goes over an index", span, hint=f"write {name}[j = 1..T](…)")
    types = [infer(a, scope) for a in arguments] + [infer(v, scope) for _, v in keywords]
    if name == "layernorm":
        if len(arguments) not in (1, 2):
            raise ProgramError("layernorm takes a vector and eps = …", span)
        for k, _ in keywords:
            if k != "eps":
                raise ProgramError(f"layernorm has no argument '{k}'", span, hint="did you mean 'eps'?")
        if types[0] is not None and not isinstance(types[0], Vector):
            raise ProgramError(f"layernorm takes a vector, not {_a(types[0])}", span)
        return types[0] and Vector(types[0].width, False)
    if not scope.is_function(name):
        if name in scope.types:
            raise ProgramError(f"'{name}' is a variable, not a function", span, hint="indices stand in [ ]")
        raise scope.unknown_function(name, span)
    for t in types:
        if isinstance(t, Matrix):
            raise ProgramError(f"{name} is applied to vectors coordinate by coordinate, not to matrices", span)
    return coordinatewise(types, span)


def _instruction(name: str, arguments: tuple, span: Span, scope: Scope) -> Type | None:
    counts = {"MatMul": 2}
    if len(arguments) != counts.get(name, 1):
        raise wrong_count(name, counts.get(name, 1), counts.get(name, 1), len(arguments), span)
    if name == "MatMul":
        return matmul_type(infer(arguments[0], scope), infer(arguments[1], scope), *arguments)
    t = infer(arguments[0], scope)
    if name == "Trsp":
        if t is not None and not isinstance(t, Matrix):
            raise ProgramError(f"Trsp takes a matrix, not {_a(t)}", span)
        return t and Matrix(t.columns, t.rows)
    if name == "Moment":
        return Scalar()
    if name == "Nonlin" and isinstance(t, Vector):
        return Vector(t.width, False)
    return t


def _reduction(name: str, binders: tuple, body: syntax.Expr, e: syntax.Reduction, scope: Scope) -> Type | None:
    if name not in REDUCTIONS + MAPS:
        if name in scope.ranges:
            raise ProgramError(f"'{name}' is a variable, not a function", e.span)
        raise ProgramError(f"unknown reduction '{name}'", e.span, hint=did_you_mean(name, REDUCTIONS + MAPS))
    for k, _ in e.keywords:
        if name != "batchnorm" or k != "eps":
            raise ProgramError(f"{name} has no argument '{k}'", e.span)
    if name in MAPS and len(binders) != 1:
        raise ProgramError(f"{name} goes over one index", e.span)
    with scope.binding(binders):
        t = infer(body, scope)
    if isinstance(t, Matrix):
        raise ProgramError("matrices are only multiplied with vectors: W @ x", e.span)
    if name in ("sum", "mean"):
        return t
    if isinstance(t, Process):
        raise ProgramError(f"a readout is summed or averaged, {name} is no limit of the theorem", e.span)
    return Vector(t.width, False) if isinstance(t, Vector) else t


def _bracket(operands: tuple, width: syntax.Expr, scope: Scope, span: Span) -> Type:
    types = [infer(o, scope) for o in operands]
    if len(operands) not in (1, 2):
        raise ProgramError("a Moment is <x> / n or <x, y> / n", span)
    if not isinstance(width, syntax.Name) or width.name not in scope.widths:
        raise ProgramError("a Moment is divided by its vectors' width: <x, y> / n", width.span)
    for t, o in zip(types, operands, strict=True):
        if t is None or isinstance(t, Constant | Scalar):
            continue
        if not isinstance(t, Vector):
            raise ProgramError(f"a Moment is taken of vectors, not of {_a(t)}", o.span)
        if t.width != width.name:
            raise ProgramError(f"the Moment of {t} is divided by {t.width}, not by {width.name}", width.span)
    return Scalar()


def readout_type(e: syntax.Expr, scope: Scope) -> Type | None:
    """`infer` where `v.T @ x` with a vector v is allowed: an output."""
    match e:
        case syntax.Binary("@", syntax.Transpose(v), right):
            left = infer(v, scope)
            if isinstance(left, Vector):
                x = infer(right, scope)
                if isinstance(x, Vector) and x.width != left.width:
                    raise ProgramError(f"the readout {left} and {x} differ in width", e.span)
                if x is not None and not isinstance(x, Vector) and not is_zero(right):
                    raise ProgramError(f"a readout reads a vector, not {_a(x)}", right.span)
                return Process()
            return infer(e, scope)
        case syntax.Binary(op, left, right) if op in "+-":
            for o, other in ((left, right), (right, left)):
                if _is_undefined(o, scope) and isinstance(readout_type(other, scope), Process):
                    raise scope.undefined(o.name, o.span, _bias_of_the_output(o.name))
            a, b = readout_type(left, scope), readout_type(right, scope)
            if isinstance(a, Process) or isinstance(b, Process):
                for t, o in ((a, left), (b, right)):
                    if not isinstance(t, Process) and not is_zero(o):
                        raise _not_in_output(t, o)
                return Process()
            return infer(e, scope)
        case syntax.Binary(op, left, right) if op in "*/":
            if isinstance(readout_type(left, scope), Process):
                output_factor(right, scope)
                return Process()
            if op == "*" and isinstance(readout_type(right, scope), Process):
                output_factor(left, scope)
                return Process()
            if not any(isinstance(s, syntax.Name) and s.name in scope.widths for s in leaves(e)):
                return infer(e, scope)
        case syntax.Negate(operand):
            return readout_type(operand, scope)
        case syntax.Conditional(a, _, b):
            return join(readout_type(a, scope), readout_type(b, scope), e.span)
        case syntax.Guard(a, b):
            return join(readout_type(a, scope), readout_type(b, scope), e.span)
        case syntax.Reduction(name, binders, body) if name in ("sum", "mean"):
            with scope.binding(binders):
                return readout_type(body, scope)
        case syntax.Call("LinComb", (inner,)):
            return readout_type(inner, scope)
    _no_readout_inside(e, scope)
    # Under * and / a width may stand: the factor of an output is checked where it is used.
    if any(isinstance(s, syntax.Name) and s.name in scope.widths for s in leaves(e)):
        output_factor(e, scope)
        return NUMBER
    return infer(e, scope)


def _is_undefined(e: syntax.Expr, scope: Scope) -> TypeGuard[syntax.Name | syntax.Index]:
    return isinstance(e, syntax.Name | syntax.Index) and e.name != "pi" and e.name not in scope.known()


def output_factor(e: syntax.Expr, scope: Scope) -> None:
    """The factor of a readout: a number with widths, such as 1/sqrt(n), or a C."""
    _no_readout_inside(e, scope)
    if any(isinstance(s, syntax.Name) and s.name in scope.widths for s in leaves(e)):
        scope.number(e)
        return
    t = infer(e, scope)
    if t is not None and not isinstance(t, Constant | Scalar):
        raise ProgramError(f"a readout is multiplied by numbers and C's only, not by {t}", e.span)


def _no_readout_inside(e: syntax.Expr, scope: Scope) -> None:
    """Raises ProgramError where something is computed from a readout that leaves it no Gaussian process."""
    for part in subexpressions(e):
        match part:
            case syntax.Binary("@", syntax.Transpose(v)) if isinstance(scope.types.get(v.name), Vector):
                what = e.function if isinstance(e, syntax.Call | syntax.Reduction) else "this"
                raise ProgramError(
                    f"{what} is computed from the output: outputs are jointly Gaussian, with a kernel, only before it",
                    e.span,
                    hint="let the output be a readout v.T @ x / sqrt(n) itself (a softmax after it is part of "
                    "the loss or the likelihood), or put the function on the vector: v.T @ f(x)",
                )


def leaves(e: syntax.Expr) -> list[syntax.Expr]:
    """What arithmetic and calls of functions are made of: names, references, brackets, reductions."""
    match e:
        case syntax.Binary(_, a, b):
            return leaves(a) + leaves(b)
        case syntax.Negate(a):
            return leaves(a)
        case syntax.Call(_, arguments, _):
            return [leaf for a in arguments for leaf in leaves(a)]
    return [e]
