from tensorprog.resources import bundled_programs, grammar_text


def test_the_bundled_programs_are_found_by_name():
    programs = bundled_programs()
    assert list(programs) == sorted(programs)
    assert {"mlp", "rnn", "transformer", "semicircle"} <= set(programs)
    for name, path in programs.items():
        assert f"program {name}(" in path.read_text(encoding="utf-8")


def test_the_grammar_is_found():
    assert ":" in grammar_text()
