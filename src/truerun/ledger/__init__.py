"""A fact becomes an entry that nobody can rewrite: envelopes, Merkle tree, signed tree heads, proofs, verification."""
