"""Names that are free."""

from tensorprog.index.fresh import distinct, numbered, underscored


def test_underscores():
    assert underscored("i", ()) == "i"
    assert underscored("i", {"i", "i_"}) == "i__"
    assert underscored("i'", {"i'", "i"}) == "i_'"
    assert underscored("_1", ["_1"], {"_1_"}) == "_1__"


def test_numbers():
    assert numbered("g", set()) == "g"
    assert numbered("g", {"g"}, {"g_2": 0}) == "g_3"
    assert numbered("a", {"a"}, first=1) == "a_1"
    assert numbered("t#", {"t#"}, separator="") == "t#2"


def test_a_predicate_may_tell_what_is_taken():
    assert numbered("relu", lambda name: name in ("relu", "relu_2"), {"relu_3"}) == "relu_4"


def test_names_made_distinct():
    assert distinct(["i", "j", "i", "i", "i_"]) == ["i", "j", "i_", "i__", "i___"]
