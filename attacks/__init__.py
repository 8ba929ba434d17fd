"""Attack stories that run: each plants one thing in a real training project and asks whether Truerun says what and where."""
