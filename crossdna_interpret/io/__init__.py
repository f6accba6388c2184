"""Files and data: FASTA, the bundled examples, and files that are written whole."""
