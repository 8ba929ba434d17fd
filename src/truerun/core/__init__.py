"""The nouns: frozen values, their canonical encoding and the error tree. Standard library only."""
