"""Rules about the interpreter: installed packages, start-up hooks, bytecode and preloaded libraries."""
