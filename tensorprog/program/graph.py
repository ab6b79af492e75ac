"""The IR of a program as a graph: a node for each family, an edge for each way in which one reads another.

s[t] := Nonlin(phi(h[t]))                        h --[t]--> s
W_s[t] := MatMul(W, s[t-1])                      s --[t-1]--> W_s,   W ----> W_s
"""

from __future__ import annotations

import networkx

from tensorprog.language import syntax
from tensorprog.language.printer import print_expression
from tensorprog.program.ir import Family, Program
from tensorprog.program.substitution import subexpressions

_SHAPES = {
    "input": "parallelogram",
    "weight": "box",
    "vector": "diamond",
    "scalar": "diamond",
    "assigned": "ellipse",
    "output": "doubleoctagon",
}
_INSTRUCTIONS = ("MatMul", "LinComb", "Nonlin", "Moment", "Trsp")


def graph(program: Program) -> networkx.MultiDiGraph:
    """Families as nodes, with attributes role, type, axes and instruction; reads as edges, with attribute indices.

    An edge goes from the family that is read to the one that reads it, once for every way of indexing ("l - 1, p").
    """
    result = networkx.MultiDiGraph(name=program.name)
    for f in program.families.values():
        result.add_node(
            f.name, role=f.role, type=str(f.type), axes=", ".join(map(str, f.ranges)), instruction=_instruction(f)
        )
    for f in program.families.values():
        edges: dict[tuple[str, str], None] = {}
        for clause in f.clauses:
            for e in subexpressions(clause.value):
                if isinstance(e, syntax.Name | syntax.Index) and e.name in program.families:
                    indices = ", ".join(print_expression(i) for i in e.indices) if isinstance(e, syntax.Index) else ""
                    edges[e.name, indices] = None
        for name, indices in edges:
            result.add_edge(name, f.name, indices=indices)
    return result


def to_dot(program: Program) -> str:
    """The graph in Graphviz DOT, for `dot -Tsvg`."""
    g = graph(program)
    lines = [f"digraph {_quoted(program.name)} {{", "    rankdir = LR;", '    node [fontname = "monospace"];']
    for name, data in g.nodes(data=True):
        title = name + (f"[{data['axes']}]" if data["axes"] else "")
        label = [f"{title} : {data['type']}", *([data["instruction"]] if data["instruction"] else [])]
        lines.append(f"    {_quoted(name)} [shape = {_SHAPES[data['role']]}, label = {_quoted(chr(10).join(label))}];")
    for source, target, data in g.edges(data=True):
        indices = f" [label = {_quoted('[' + data['indices'] + ']')}]" if data["indices"] else ""
        lines.append(f"    {_quoted(source)} -> {_quoted(target)}{indices};")
    return "\n".join([*lines, "}"]) + "\n"


def _instruction(f: Family) -> str:
    """The instructions that define a family, in the order of its assignments."""
    found: dict[str, None] = {}
    for clause in f.clauses:
        for e in subexpressions(clause.value):
            if isinstance(e, syntax.Call) and e.function in _INSTRUCTIONS:
                found[e.function] = None
    if f.role == "output" and not found:
        return "readout"
    return ", ".join(found)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
