"""C++ at run time: finding a compiler, building libraries once, loading the operators of csrc/."""
